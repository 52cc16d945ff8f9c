#include "libpolicy/models/products.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "libpolicy/core/instruction_set.h"
#include "libpolicy/models/row_ops.h"

namespace meed {
namespace {

// Elements of the second factor that are widened at a time: 16 MB of float32.
constexpr int64_t kBlockElements = int64_t{1} << 22;
constexpr int64_t kMinBlockColumns = 64;

bool widens(const at::Tensor& a) {
  return a.is_cpu() && a.scalar_type() == at::kBFloat16 && !has_bfloat16_products();
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

void widened_product_out(const at::Tensor& out, const at::Tensor& a, const at::Tensor& b) {
  const auto wide_a = a.to(at::kFloat);
  const int64_t columns = b.size(1),
                step = std::max(kMinBlockColumns, kBlockElements / std::max<int64_t>(1, b.size(0)));
  for (int64_t first = 0; first < columns; first += step) {
    const int64_t count = std::min(step, columns - first);
    out.narrow(1, first, count).copy_(at::mm(wide_a, b.narrow(1, first, count).to(at::kFloat)));
  }
}

void product_out(const at::Tensor& out, const at::Tensor& a, const at::Tensor& b) {
  if (widens(a)) return widened_product_out(out, a, b);
  auto target = out;
  at::mm_out(target, a, b);
}

at::Tensor product(const at::Tensor& a, const at::Tensor& b) {
  if (!widens(a)) return at::mm(a, b);
  const auto out = at::empty({a.size(0), b.size(1)}, a.options());
  widened_product_out(out, a, b);
  return out;
}

void add_product(const at::Tensor& target, bool fresh, const at::Tensor& a, const at::Tensor& b,
                 at::Tensor* scratch) {
  auto out = target;
  if (a.scalar_type() == at::kFloat) {
    if (fresh)
      at::mm_out(out, a, b);
    else
      out.addmm_(a, b);
    return;
  }
  if (widens(a)) return add_product(target, fresh, a.to(at::kFloat), b.to(at::kFloat));
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
