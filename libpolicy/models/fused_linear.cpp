#include "libpolicy/models/fused_linear.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "libpolicy/core/error.h"
#include "libpolicy/models/products.h"

namespace meed {
namespace {

bool contiguous_after(const at::Tensor& before, const at::Tensor& after) {
  return before.is_contiguous() && after.is_contiguous() &&
         before.storage().is_alias_of(after.storage()) &&
         after.storage_offset() == before.storage_offset() + before.numel();
}

/// One tensor over the gradients of all leaves: made where none has a gradient, found where they
/// lie one after the other, undefined otherwise. `fresh` says that its values are not set.
at::Tensor joined_gradient(const std::vector<at::Tensor>& leaves, bool& fresh) {
  fresh = false;
  int64_t defined = 0, rows = 0;
  for (const auto& leaf : leaves) {
    defined += leaf.grad().defined();
    rows += leaf.size(0);
  }
  auto shape = leaves.front().sizes().vec();
  shape[0] = rows;
  if (defined == 0) {
    const auto joined = at::empty(shape, leaves.front().options().requires_grad(false));
    int64_t first = 0;
    for (const auto& leaf : leaves) {
      leaf.mutable_grad() = joined.narrow(0, first, leaf.size(0)).detach();
      first += leaf.size(0);
    }
    fresh = true;
    return joined;
  }
  if (defined < static_cast<int64_t>(leaves.size())) return {};
  for (size_t i = 1; i < leaves.size(); ++i)
    if (!contiguous_after(leaves[i - 1].grad(), leaves[i].grad())) return {};
  const auto& first = leaves.front().grad();
  if (!first.is_contiguous()) return {};
  auto strides = first.strides().vec();
  return first.as_strided(shape, strides, first.storage_offset());
}

}  // namespace

void accumulate_gradient(const at::Tensor& leaf, const at::Tensor& value) {
  auto& grad = leaf.mutable_grad();
  if (grad.defined())
    grad.add_(value);
  else
    grad = value.scalar_type() == at::kFloat ? value : value.to(at::kFloat);
}

FusedLinear::FusedLinear(const Spec& spec, const LoadOptions& options, ParameterStore& store)
    : spec_(spec), separate_compute_(options.trainable && options.dtype != at::kFloat) {
  const bool trainable = options.trainable;
  const auto placed = at::TensorOptions().device(options.device);
  int64_t out = 0;
  for (const auto& part : spec.parts) out += part.rows;
  const auto stored = placed.dtype(trainable ? at::kFloat : options.dtype);
  const auto add = [&](const std::string& name, const at::Tensor& view) {
    const auto leaf = view.detach();
    if (trainable) leaf.set_requires_grad(true);
    return store.add(name, leaf);
  };
  if (spec.bias) bias_ = at::empty({out}, placed.dtype(at::kFloat));
  if (spec.transposed) {
    const auto weight = at::empty({spec.in, out}, stored);
    weight_leaves_ = {add(spec.stored_module + ".weight", weight)};
    master_ = weight.t();
    if (spec.bias) bias_leaves_ = {add(spec.stored_module + ".bias", bias_)};
  } else {
    master_ = at::empty({out, spec.in}, stored);
    int64_t first = 0;
    for (const auto& part : spec.parts) {
      weight_leaves_.push_back(add(part.module + ".weight", master_.narrow(0, first, part.rows)));
      if (spec.bias)
        bias_leaves_.push_back(add(part.module + ".bias", bias_.narrow(0, first, part.rows)));
      first += part.rows;
    }
  }
  compute_ = separate_compute_ ? at::empty({out, spec.in}, placed.dtype(options.dtype)) : master_;
}

LinearWeights FusedLinear::part(size_t index) const {
  int64_t first = 0;
  for (size_t i = 0; i < index; ++i) first += spec_.parts[i].rows;
  const int64_t rows = spec_.parts[index].rows;
  LinearWeights weights;
  weights.weight = compute_.narrow(0, first, rows);
  if (spec_.bias) weights.bias = bias_.narrow(0, first, rows);
  for (const auto& slot : lora_) {
    if (first < slot.first || first + rows > slot.first + slot.rows) continue;
    weights.lora_a = slot.a_compute;
    weights.lora_b = slot.b_compute.narrow(0, first - slot.first, rows);
    weights.lora_scale = slot.scale;
  }
  return weights;
}

void FusedLinear::sync() {
  at::NoGradGuard no_grad;
  if (separate_compute_ && master_.defined()) compute_.copy_(master_);
  for (auto& slot : lora_)
    if (slot.a_compute.scalar_type() != at::kFloat) {
      slot.a_compute.copy_(slot.a);
      slot.b_compute.copy_(slot.b);
    }
}

at::Tensor FusedLinear::forward(const at::Tensor& x_NI, bool adapters) const {
  at::Tensor y = product(x_NI, compute_.t());
  if (adapters)
    for (const auto& slot : lora_)
      y.narrow(1, slot.first, slot.rows)
          .add_(product(product(x_NI, slot.a_compute.t()), slot.b_compute.t()), slot.scale);
  if (spec_.bias) y.add_(bias_);
  return y;
}

at::Tensor FusedLinear::input_gradient(const at::Tensor& dy_NO, bool adapters) const {
  auto dx = product(dy_NO, compute_);
  if (adapters)
    for (const auto& slot : lora_)
      dx.add_(
          product(product(dy_NO.narrow(1, slot.first, slot.rows), slot.b_compute), slot.a_compute),
          slot.scale);
  return dx;
}

bool FusedLinear::trains_weight() const {
  for (const auto& leaf : weight_leaves_)
    if (leaf.requires_grad()) return true;
  return false;
}

void FusedLinear::accumulate_weight(const at::Tensor& x_NI, const at::Tensor& dy_NO) const {
  bool all = true, fresh = false;
  for (const auto& leaf : weight_leaves_) all &= leaf.requires_grad();
  if (spec_.transposed) {
    const auto grad = joined_gradient(weight_leaves_, fresh);
    return add_product(grad, fresh, x_NI.t(), dy_NO);
  }
  if (all) {
    const auto grad = joined_gradient(weight_leaves_, fresh);
    if (grad.defined()) return add_product(grad, fresh, dy_NO.t(), x_NI);
  }
  int64_t first = 0;
  for (const auto& leaf : weight_leaves_) {
    const auto slice = dy_NO.narrow(1, first, leaf.size(0));
    first += leaf.size(0);
    if (leaf.requires_grad()) accumulate_gradient(leaf, product(slice.t(), x_NI));
  }
}

void FusedLinear::accumulate_bias(const at::Tensor& dy_NO) const {
  const auto sums = dy_NO.sum(0, /*keepdim=*/false, at::kFloat);
  int64_t first = 0;
  for (const auto& leaf : bias_leaves_) {
    if (leaf.requires_grad())
      accumulate_gradient(leaf, sums.narrow(0, first, leaf.size(0)).clone());
    first += leaf.size(0);
  }
}

void FusedLinear::accumulate_gradients(const at::Tensor& x_NI, const at::Tensor& dy_NO,
                                       bool adapters) const {
  if (trains_weight()) accumulate_weight(x_NI, dy_NO);
  if (spec_.bias) accumulate_bias(dy_NO);
  if (!adapters) return;
  for (const auto& slot : lora_) {
    if (!slot.a.requires_grad()) continue;
    const auto dy = dy_NO.narrow(1, slot.first, slot.rows);
    accumulate_gradient(
        slot.b, product(dy.t(), product(x_NI, slot.a_compute.t())).to(at::kFloat).mul_(slot.scale));
    accumulate_gradient(
        slot.a, product(product(dy, slot.b_compute).t(), x_NI).to(at::kFloat).mul_(slot.scale));
  }
}

void FusedLinear::merge_adapters() {
  at::NoGradGuard no_grad;
  for (const auto& slot : lora_)
    master_.narrow(0, slot.first, slot.rows)
        .add_(at::mm(slot.b.detach(), slot.a.detach()), slot.scale);
  sync();
  lora_.clear();
}

}  // namespace meed
