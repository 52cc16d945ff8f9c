#pragma once

#include <optional>
#include <string>

#include "libpolicy/losses/loss_output.h"

namespace meed {

/// M tokens of C completions, float32.
struct PolicyGradientInputs {
  at::Tensor logprobs_M;  ///< with gradient
  at::Tensor old_logprobs_M;
  at::Tensor ref_logprobs_M;  ///< undefined where beta is 0
  at::Tensor mask_M;          ///< 1 where a token counts
  at::Tensor completion_M;    ///< int64 in [0, C)
  at::Tensor advantages_C;
};

struct PolicyGradientOptions {
  std::string loss_type = "dapo";  ///< "grpo", "bnpo", "dr_grpo", "dapo"
  double beta = 0.0;
  double epsilon = 0.2, epsilon_high = 0.2;
  std::optional<double> delta;
  std::string importance_sampling_level = "token";  ///< or "sequence" (GSPO)
  bool use_bias_correction_kl = true;
};

/// Counts over the whole update: every micro-batch, every rank.
struct PolicyGradientTotals {
  double num_tokens = 0.0, num_completions = 0.0;
  int64_t max_completion_length = 0;
};

/// The clipped surrogate of PPO with group advantages (Shao et al. 2024, eq. 3; TRL 1.16's
/// normalisations), per token
///   l = -min(r A, clip(r, 1 - epsilon, 1 + epsilon_high) A) + beta k3,   r = exp(logp - old),
///   capped at `delta` in the first term k3 = exp(ref - logp) - (ref - logp) - 1, times r with
///   use_bias_correction_kl
/// and over tokens
///   grpo     mean over completions of the mean over their tokens
///   bnpo     sum / tokens that count       dapo  the same count over the whole update
///   dr_grpo  sum / (completions * max_completion_length)
/// Here both token counts are those of the whole update, so bnpo and dapo agree and nothing depends
/// on the micro-batches.
LossOutput policy_gradient_loss(const PolicyGradientInputs& inputs,
                                const PolicyGradientOptions& options,
                                const PolicyGradientTotals& totals);

}  // namespace meed
