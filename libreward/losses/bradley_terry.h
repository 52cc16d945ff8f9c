#pragma once

#include "libpolicy/losses/loss_output.h"

namespace meed {

/// -log sigmoid(r_chosen - r_rejected - margin) + center_rewards_coefficient (r_chosen +
/// r_rejected)^2, summed over B pairs and divided by `num_pairs` of the whole step (Bradley-Terry;
/// Touvron et al. 2023 for the margin, Eisenstein et al. 2023 for centring). Metrics as TRL:
/// accuracy, margin, mean_reward, min_reward, max_reward. All inputs float32 [B]; undefined margins are none.
LossOutput bradley_terry_loss(const at::Tensor& chosen_B, const at::Tensor& rejected_B,
                              const at::Tensor& margins_B, double center_rewards_coefficient,
                              double num_pairs);

}  // namespace meed
