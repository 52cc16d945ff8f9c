#pragma once

#include <string>

#include "libpolicy/losses/loss_output.h"

namespace meed {

/// Summed log-probabilities of B pairs, float32; lengths in tokens.
struct DpoInputs {
  at::Tensor policy_chosen_B, policy_rejected_B;  ///< with gradient
  at::Tensor ref_chosen_B, ref_rejected_B;
  at::Tensor chosen_lengths_B, rejected_lengths_B;
};

struct DpoOptions {
  std::string loss_type = "sigmoid";  ///< "sigmoid", "hinge", "ipo"
  double beta = 0.1;
  double label_smoothing = 0.0;  ///< sigmoid only
};

/// With d = (policy_chosen - ref_chosen) - (policy_rejected - ref_rejected):
///   sigmoid  -(1 - s) log sigmoid(beta d) - s log sigmoid(-beta d)   (Rafailov et al. 2023, eq. 7;
///   s: label smoothing) hinge    max(0, 1 - beta d)                                      (SLiC,
///   Zhao et al. 2023) ipo      (d' - 1 / (2 beta))^2 with log-ratios averaged by token (Azar et
///   al. 2024, eq. 17)
/// summed and divided by `num_pairs` of the whole step. Metrics as TRL:
/// rewards/{chosen,rejected,accuracies,margins}, logps/*.
LossOutput dpo_loss(const DpoInputs& inputs, const DpoOptions& options, double num_pairs);

}  // namespace meed
