#pragma once

#include <string>

#include "libpolicy/losses/loss_output.h"

namespace meed {

// Losses of scalar rewards on preference pairs. Rewards are float32 or float64 [B]; a loss is
// summed over the pairs and divided by `num_pairs` of the whole step. D = chosen - rejected.

/// -log sigmoid(D - margin) + center_rewards_coefficient (r_chosen + r_rejected)^2 (Bradley-Terry;
/// Touvron et al. 2023 for the margin, Eisenstein et al. 2023 for centring). Metrics as TRL:
/// accuracy, margin, mean_reward, min_reward, max_reward. Undefined margins are none.
LossOutput bradley_terry_loss(const at::Tensor& chosen_B, const at::Tensor& rejected_B,
                              const at::Tensor& margins_B, double center_rewards_coefficient,
                              double num_pairs);

/// HelpSteer2-Preference (Wang et al. 2024): strengths_B = |m| in {1, 2, 3} of each preference;
/// throws InternalError where one is negative.
///   "regular" -log sigmoid(D);  "margin" -log sigmoid(D - |m|);  "scaled" -|m| log sigmoid(D)
LossOutput strength_loss(const at::Tensor& chosen_B, const at::Tensor& rejected_B,
                         const at::Tensor& strengths_B, const std::string& kind, double num_pairs);

/// -p log sigmoid(D) - (1 - p) log sigmoid(-D) with p = P(the chosen is better) [B]: soft labels
/// and, with p = 1 - s everywhere, label smoothing (Secrets of RLHF II, section 2).
LossOutput soft_preference_loss(const at::Tensor& chosen_B, const at::Tensor& rejected_B,
                                const at::Tensor& probabilities_B, double num_pairs);

/// How strong M reward models, trained on the same data in other orders, find each preference
/// (Secrets of RLHF II): differences_MB = D of each model.
struct PreferenceStrength {
  at::Tensor mean_B, std_B;  ///< std with ddof 1; 0 for one model
};
PreferenceStrength preference_strength(const at::Tensor& differences_MB);
/// bool [B]: the share of pairs of lowest mean strength, at most those whose mean is below 0: the
/// labels to flip or to drop.
at::Tensor suspect_labels(const at::Tensor& mean_strength_B, double share);

/// The critique's language-model loss plus the score's: -mean log p(critique) over
/// `num_critique_tokens` of the step - log sigmoid(D) (MM-RLHF). critique_logprobs_M: [M].
LossOutput critique_score_loss(const at::Tensor& critique_logprobs_M, const at::Tensor& chosen_B,
                               const at::Tensor& rejected_B, double num_critique_tokens,
                               double num_pairs);

}  // namespace meed
