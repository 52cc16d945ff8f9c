#pragma once

#include <ATen/core/Tensor.h>

namespace meed {

/// Products of matrices in the compute dtype T, float32 or bfloat16, outside autograd; sums are
/// taken in float32 and rounded once.
///
/// On the CPU LibTorch leaves products of bfloat16 to oneDNN. With AVX-512 but without its bfloat16
/// instructions they take more than twice the time of float32; without AVX-512 they run in plain
/// loops, tens of times slower. On such processors the factors are widened to float32 here, a block
/// at a time, in memory that each thread keeps (192 MB at most).

/// Whether products of bfloat16 are left to LibTorch on this processor.
bool has_bfloat16_products();

/// What a product of such a factor is best written in, where it is read once and not kept: float32
/// where products are taken in it anyway, else the factor's dtype.
at::ScalarType product_dtype(const at::Tensor& a);

/// a b: [N, K] x [K, M] -> [N, M]. Factors may be transposed views.
at::Tensor product(const at::Tensor& a, const at::Tensor& b);
/// The same into `out`, which may be of product_dtype; as may one factor of bfloat16 on the CPU.
void product_out(const at::Tensor& out, const at::Tensor& a, const at::Tensor& b);

/// float32 target = a b, added to what is there unless `fresh`. The product of bfloat16 factors is
/// rounded to bfloat16 before where oneDNN makes it. `scratch` is memory for it (T, target's
/// shape), made where it is undefined and needed.
void add_product(const at::Tensor& target, bool fresh, const at::Tensor& a, const at::Tensor& b,
                 at::Tensor* scratch = nullptr);

/// product_out and add_product by widening, on any processor.
void widened_product_out(const at::Tensor& out, const at::Tensor& a, const at::Tensor& b);
void add_widened_product(const at::Tensor& target, bool fresh, const at::Tensor& a,
                         const at::Tensor& b);

}  // namespace meed
