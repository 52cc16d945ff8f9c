#pragma once

#include "libpolicy/losses/loss_output.h"

namespace meed {

/// Mean score of each of K responses against all of them, itself included (the diagonal is 0),
/// s_i = sum_j S_ij / K. scores_KK: S_ij > 0 where i is preferred to j. [K], in the dtype of
/// scores.
at::Tensor mean_preference_scores(const at::Tensor& scores_KK);

/// General preference optimisation (Zhang et al. 2024, "Beyond Bradley-Terry"): the policy's
/// log-ratio to the policy pi_t that sampled is regressed on the scaled score,
///   (log pi(y) / pi_t(y) - (s(y) / beta - log Z))^2,
/// summed over C completions and divided by `num_completions` of the whole update. Sums of
/// log-probabilities by completion, float32 [C]; log_z_C undefined: 0. Metrics: gpo/log_ratio,
/// gpo/target, means over completions.
LossOutput gpo_loss(const at::Tensor& logprobs_C, const at::Tensor& old_logprobs_C,
                    const at::Tensor& scores_C, const at::Tensor& log_z_C, double beta,
                    double num_completions);

}  // namespace meed
