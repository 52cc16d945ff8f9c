#pragma once

#include <ATen/core/Tensor.h>

namespace meed {

/// Products of matrices in the compute dtype T, float32 or bfloat16, outside autograd; sums are
/// taken in float32 and rounded once.
///
/// On the CPU LibTorch leaves products of bfloat16 to oneDNN. With AVX-512 but without its bfloat16
/// instructions they take more than twice the time of float32; without AVX-512 they run in plain
/// loops, tens of times slower. On such processors the factors are widened to float32 here, the
/// second a block of columns at a time.

/// Whether products of bfloat16 are left to LibTorch on this processor.
bool has_bfloat16_products();

/// a b: [N, K] x [K, M] -> [N, M]. Factors may be transposed views.
at::Tensor product(const at::Tensor& a, const at::Tensor& b);
/// The same into `out`.
void product_out(const at::Tensor& out, const at::Tensor& a, const at::Tensor& b);

/// float32 target = a b, added to what is there unless `fresh`. The product of bfloat16 factors is
/// rounded to bfloat16 before where oneDNN makes it. `scratch` is memory for it (T, target's
/// shape), made where it is undefined and needed.
void add_product(const at::Tensor& target, bool fresh, const at::Tensor& a, const at::Tensor& b,
                 at::Tensor* scratch = nullptr);

/// product_out by widening, on any processor.
void widened_product_out(const at::Tensor& out, const at::Tensor& a, const at::Tensor& b);

}  // namespace meed
