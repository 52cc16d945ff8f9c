#pragma once

#include "libpolicy/losses/loss_output.h"

namespace meed {

// What the losses on preference pairs share.

/// -(1 - s) log sigmoid(x) - s log sigmoid(-x): logistic loss with label smoothing s.
at::Tensor smoothed_logistic_loss(const at::Tensor& logits_B, double smoothing);

/// TRL's metrics of B pairs: rewards/{chosen,rejected,accuracies,margins} of beta times `chosen_B`
/// and `rejected_B` (beta: a number, or one for each pair), logps/* of the policy's sums.
void note_pairs(LossOutput& output, const at::Tensor& beta, const at::Tensor& chosen_B,
                const at::Tensor& rejected_B, const at::Tensor& policy_chosen_B,
                const at::Tensor& policy_rejected_B);

/// The mean of `values_B` as a metric.
void note_mean(LossOutput& output, const char* key, const at::Tensor& values_B);

}  // namespace meed
