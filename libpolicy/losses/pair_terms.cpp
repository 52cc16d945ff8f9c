#include "libpolicy/losses/pair_terms.h"

#include <ATen/ATen.h>

namespace meed {

at::Tensor smoothed_logistic_loss(const at::Tensor& logits_B, double smoothing) {
  return -(1.0 - smoothing) * at::log_sigmoid(logits_B) - smoothing * at::log_sigmoid(-logits_B);
}

void note_pairs(LossOutput& output, const at::Tensor& beta, const at::Tensor& chosen_B,
                const at::Tensor& rejected_B, const at::Tensor& policy_chosen_B,
                const at::Tensor& policy_rejected_B) {
  note_mean(output, "rewards/chosen", beta * chosen_B);
  note_mean(output, "rewards/rejected", beta * rejected_B);
  note_mean(output, "rewards/accuracies", chosen_B > rejected_B);
  note_mean(output, "rewards/margins", beta * (chosen_B - rejected_B));
  note_mean(output, "logps/chosen", policy_chosen_B);
  note_mean(output, "logps/rejected", policy_rejected_B);
}

void note_mean(LossOutput& output, const char* key, const at::Tensor& values_B) {
  output.metrics[key] = {values_B.detach().to(at::kDouble).sum().item<double>(),
                         static_cast<double>(values_B.numel())};
}

}  // namespace meed
