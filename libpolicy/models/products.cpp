#include "libpolicy/models/products.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "libpolicy/core/instruction_set.h"
#include "libpolicy/models/row_ops.h"

namespace meed {
namespace {

// Elements of a factor that are widened at a time, 16 MB of float32, and of the largest memory that
// is kept for the next product.
constexpr int64_t kBlockElements = int64_t{1} << 22, kKeptElements = int64_t{1} << 24;
constexpr int64_t kMinBlock = 64;

int64_t block_of(int64_t elements, int64_t others) {
  return std::max(kMinBlock, elements / std::max<int64_t>(1, others));
}

bool is_narrow(const at::Tensor& factor) {
  return factor.is_cpu() && factor.scalar_type() == at::kBFloat16;
}

bool widens(const at::Tensor& a, const at::Tensor& b) {
  return (is_narrow(a) || is_narrow(b)) &&
         (a.scalar_type() != b.scalar_type() || !has_bfloat16_products());
}

/// Memory for factors and sums in float32 that a thread keeps: to clear fresh pages takes as long
/// as to widen.
class Scratch {
 public:
  at::Tensor matrix(int64_t rows, int64_t columns) {
    const int64_t elements = rows * columns;
    if (elements > kKeptElements) return at::empty({rows, columns}, at::kFloat);
    if (!memory_.defined() || memory_.numel() < elements)
      memory_ = at::empty({elements}, at::kFloat);
    return memory_.narrow(0, 0, elements).view({rows, columns});
  }

 private:
  at::Tensor memory_;
};

/// The factor in float32; a transposed view stays one, so that memory is read in its order.
at::Tensor widen(const at::Tensor& factor, Scratch& scratch) {
  if (factor.scalar_type() == at::kFloat) return factor;
  const bool transposed = factor.stride(0) == 1 && factor.stride(1) != 1;
  const auto wide = transposed ? scratch.matrix(factor.size(1), factor.size(0)).t()
                               : scratch.matrix(factor.size(0), factor.size(1));
  wide.copy_(factor);
  return wide;
}

/// target = a b, added to what is there unless `fresh`; all of one dtype.
void add_plain_product(at::Tensor target, bool fresh, const at::Tensor& a, const at::Tensor& b) {
  if (fresh)
    at::mm_out(target, a, b);
  else
    target.addmm_(a, b);
}

}  // namespace

bool has_bfloat16_products() {
#if defined(__x86_64__)
  static const bool supported =
      instruction_set() == InstructionSet::kAvx512 && __builtin_cpu_supports("avx512bf16");
  return supported;
#else
  return true;
#endif
}

at::ScalarType product_dtype(const at::Tensor& a) {
  return widens(a, a) ? at::kFloat : a.scalar_type();
}

void widened_product_out(const at::Tensor& out, const at::Tensor& a, const at::Tensor& b) {
  if (out.scalar_type() == at::kFloat) return add_widened_product(out, /*fresh=*/true, a, b);
  thread_local Scratch sums;
  const int64_t M = b.size(1), step = block_of(kKeptElements, a.size(0));
  for (int64_t first = 0; first < M; first += step) {
    const int64_t count = std::min(step, M - first);
    const auto wide = sums.matrix(a.size(0), count);
    add_widened_product(wide, /*fresh=*/true, a, b.narrow(1, first, count));
    out.narrow(1, first, count).copy_(wide);
  }
}

void product_out(const at::Tensor& out, const at::Tensor& a, const at::Tensor& b) {
  if (widens(a, b)) return widened_product_out(out, a, b);
  auto target = out;
  at::mm_out(target, a, b);
}

at::Tensor product(const at::Tensor& a, const at::Tensor& b) {
  if (!widens(a, b)) return at::mm(a, b);
  const auto out = at::empty({a.size(0), b.size(1)}, a.options());
  widened_product_out(out, a, b);
  return out;
}

void add_widened_product(const at::Tensor& target, bool fresh, const at::Tensor& a,
                         const at::Tensor& b) {
  thread_local Scratch scratch_a, scratch_b;
  const int64_t N = a.size(0), K = a.size(1), M = b.size(1);
  // A tall second factor is taken some rows at a time, a wide one some columns.
  if (K > M) {
    const int64_t step = block_of(kBlockElements, std::max(M, is_narrow(a) ? N : 0));
    for (int64_t first = 0; first < K; first += step) {
      const int64_t count = std::min(step, K - first);
      add_plain_product(target, fresh && first == 0, widen(a.narrow(1, first, count), scratch_a),
                        widen(b.narrow(0, first, count), scratch_b));
    }
    return;
  }
  const auto wide_a = widen(a, scratch_a);
  const int64_t step = block_of(kBlockElements, K);
  for (int64_t first = 0; first < M; first += step) {
    const int64_t count = std::min(step, M - first);
    add_plain_product(target.narrow(1, first, count), fresh, wide_a,
                      widen(b.narrow(1, first, count), scratch_b));
  }
}

void add_product(const at::Tensor& target, bool fresh, const at::Tensor& a, const at::Tensor& b,
                 at::Tensor* scratch) {
  auto out = target;
  if (widens(a, b)) return add_widened_product(target, fresh, a, b);
  if (a.scalar_type() == at::kFloat) return add_plain_product(target, fresh, a, b);
  if (a.is_cuda()) {
    at::addmm_out(out, out, a, b, /*out_dtype=*/at::kFloat, /*beta=*/fresh ? 0 : 1);
    return;
  }
  at::Tensor own;
  auto& product = scratch ? *scratch : own;
  if (!product.defined()) product = at::empty(target.sizes(), a.options());
  at::mm_out(product, a, b);
  if (fresh)
    out.copy_(product);
  else
    add_rows(out, product);
}

}  // namespace meed
