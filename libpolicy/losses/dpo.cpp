#include "libpolicy/losses/dpo.h"

#include <ATen/ATen.h>

#include "libpolicy/core/error.h"

namespace meed {
namespace {

at::Tensor pair_losses(const DpoInputs& in, const DpoOptions& options, const at::Tensor& chosen_B,
                       const at::Tensor& rejected_B) {
  const auto scaled_B = options.beta * (chosen_B - rejected_B);
  if (options.loss_type == "sigmoid") {
    const double smoothing = options.label_smoothing;
    return -(1.0 - smoothing) * at::log_sigmoid(scaled_B) - smoothing * at::log_sigmoid(-scaled_B);
  }
  if (options.loss_type == "hinge") return at::relu(1.0 - scaled_B);
  MEED_CHECK(options.loss_type == "ipo", "unknown DPO loss " + options.loss_type);
  const auto delta_B = chosen_B / in.chosen_lengths_B.clamp_min(1.0) -
                       rejected_B / in.rejected_lengths_B.clamp_min(1.0);
  return (delta_B - 1.0 / (2.0 * options.beta)).square();
}

}  // namespace

LossOutput dpo_loss(const DpoInputs& in, const DpoOptions& options, double num_pairs) {
  const auto chosen_B = in.policy_chosen_B - in.ref_chosen_B;
  const auto rejected_B = in.policy_rejected_B - in.ref_rejected_B;
  LossOutput output{.loss = pair_losses(in, options, chosen_B, rejected_B).sum() / num_pairs,
                    .metrics = {}};
  const auto count = static_cast<double>(chosen_B.numel());
  const auto note = [&](const char* key, const at::Tensor& values_B) {
    output.metrics[key] = {values_B.detach().to(at::kDouble).sum().item<double>(), count};
  };
  note("rewards/chosen", options.beta * chosen_B);
  note("rewards/rejected", options.beta * rejected_B);
  note("rewards/accuracies", chosen_B > rejected_B);
  note("rewards/margins", options.beta * (chosen_B - rejected_B));
  note("logps/chosen", in.policy_chosen_B);
  note("logps/rejected", in.policy_rejected_B);
  return output;
}

}  // namespace meed
