#include "algorithms/entropy_control.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "algorithms/rollout_update_loop.h"
#include "libpolicy/core/metrics.h"
#include "libpolicy/distributed/communicator.h"

namespace meed {

void EntropyControl::fields(FieldVisitor& v) {
  v.field("use_adaptive_entropy", use_adaptive_entropy,
          "Adapt entropy_coef after each update so that the entropy keeps near entropy_target.");
  v.field("entropy_coef_min", entropy_coef_min, "Least entropy_coef while it adapts.");
  v.field("entropy_coef_max", entropy_coef_max, "Largest entropy_coef while it adapts.");
  v.field("entropy_coef_delta", entropy_coef_delta, "How far entropy_coef moves in an update.");
  v.field("entropy_target", entropy_target, "Mean entropy by token, in nats, that is aimed at.");
  v.require(entropy_coef_min <= entropy_coef_max, "entropy_coef_max",
            "must not be below entropy_coef_min");
  v.require(entropy_coef_delta >= 0, "entropy_coef_delta", "must not be negative");
  v.require(entropy_target >= 0, "entropy_target", "must not be negative");
}

double EntropyCoefficient::value() const {
  if (!config_.use_adaptive_entropy) return coefficient_;
  return last_entropy_ && *last_entropy_ <= config_.entropy_target ? coefficient_ : 0.0;
}

void EntropyCoefficient::add(const PolicyBatch& batch) {
  if (!config_.use_adaptive_entropy) return;
  const auto mask_M =
      batch.entropy_mask_M.defined() ? batch.mask_M * batch.entropy_mask_M : batch.mask_M;
  sum_ += (batch.entropy_M.detach() * mask_M).sum().item<double>();
  count_ += mask_M.sum().item<double>();
}

void EntropyCoefficient::end_update(Communicator& comm, MetricsWriter& metrics) {
  if (config_.use_adaptive_entropy) {
    at::Tensor sums = at::tensor({sum_, count_}, at::kDouble);
    comm.all_reduce(sums, ReduceOp::kSum);
    sum_ = count_ = 0.0;
    last_entropy_ = sums[0].item<double>() / std::max(1.0, sums[1].item<double>());
    coefficient_ =
        *last_entropy_ <= config_.entropy_target
            ? std::min(coefficient_ + config_.entropy_coef_delta, config_.entropy_coef_max)
            : std::max(coefficient_ - config_.entropy_coef_delta, config_.entropy_coef_min);
  }
  if (config_.use_adaptive_entropy || coefficient_ != 0.0)
    metrics.record("entropy_coef", coefficient_, Reduce::kMax);
}

void EntropyCoefficient::save(StateDict& state) const {
  state.numbers["coefficient"] = coefficient_;
  if (last_entropy_) state.numbers["last_entropy"] = *last_entropy_;
}

void EntropyCoefficient::load(const StateDict& state) {
  coefficient_ = state.numbers.at("coefficient");
  if (const auto found = state.numbers.find("last_entropy"); found != state.numbers.end())
    last_entropy_ = found->second;
}

}  // namespace meed
