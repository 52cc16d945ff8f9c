#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "libpolicy/losses/loss_output.h"

namespace meed {

/// M tokens of C completions, float32. What is undefined is not used.
struct PolicyGradientInputs {
  at::Tensor logprobs_M;  ///< with gradient
  at::Tensor old_logprobs_M;
  at::Tensor ref_logprobs_M;  ///< undefined where beta is 0
  at::Tensor mask_M;          ///< 1 where a token counts
  at::Tensor completion_M;    ///< int64 in [0, C)
  at::Tensor advantages_C;    ///< one for each completion
  at::Tensor advantages_M{};  ///< one for each token (PPO); goes before advantages_C
  at::Tensor entropy_M{};     ///< with gradient; needed for entropy_coef
  /// 1 where a token's policy term counts (top_entropy_quantile).
  at::Tensor entropy_mask_M{};
  /// Under the distribution that was sampled from; needed for off_policy_mask_threshold
  /// (else old_logprobs_M stand for it).
  at::Tensor sampling_logprobs_M{};
  /// exp(old - sampling), truncated or masked: see importance_sampling_correction().
  at::Tensor importance_ratio_M{};
  /// 1 on the tokens that clip_cov leaves out or kl_cov penalises, chosen over the whole update:
  /// see covariance_selection(). Undefined: chosen over the call's tokens.
  at::Tensor selected_M{};
};

struct PolicyGradientOptions {
  /// "grpo", "bnpo", "dr_grpo", "dapo", "luspo", "cispo", "sapo", "vespo" (TRL 1.16);
  /// "gmpo", "clip_cov", "kl_cov" (verl)
  std::string loss_type = "dapo";
  double beta = 0.0;
  double epsilon = 0.2;
  double epsilon_high = 0.2;  ///< cispo: the upper bound of the ratio itself
  std::optional<double> delta{};
  /// "token", "sequence" (GSPO: the mean of a sequence's log-ratios), "sequence_sum" (RLOO)
  std::string importance_sampling_level = "token";
  bool use_bias_correction_kl = true;
  std::string kl_estimator = "k3";  ///< "k1", "k2", "k3" (Schulman 2020)
  double sapo_temperature_pos = 1.0, sapo_temperature_neg = 1.05;
  double vespo_k_pos = 2.0, vespo_lambda_pos = 3.0, vespo_k_neg = 3.0, vespo_lambda_neg = 2.0;
  double entropy_coef = 0.0;
  std::optional<double> off_policy_mask_threshold{};
  /// StableReinforce: log-ratios are clamped to +- this before exp(), with no gradient beyond it.
  std::optional<double> pre_clip{};
  bool importance_ratio_by_sequence = false;  ///< importance_ratio_M is one number a completion
  double clip_cov_ratio = 2e-4, clip_cov_low = 1.0, clip_cov_high = 5.0;
  double kl_cov_ratio = 2e-4, kl_cov_coef = 0.1;
  uint64_t seed = 0;  ///< which tokens clip_cov picks
};

/// Counts over the whole update: every micro-batch, every rank.
struct PolicyGradientTotals {
  double num_tokens = 0.0, num_completions = 0.0;
  int64_t max_completion_length = 0;
  /// Tokens that the entropy bonus is over: those of the entropy mask; 0: num_tokens.
  double num_entropy_tokens = 0.0;
};

/// The clipped surrogate of PPO with group advantages (Shao et al. 2024, eq. 3) and its kin, with
/// TRL 1.16's normalisations. With r = exp(logp - old), per token or, at sequence level, the
/// exponent's mean (GSPO) or sum (RLOO) over the sequence, a token's loss is
///   grpo bnpo dr_grpo dapo luspo  -min(min(r, delta) A, clip(r, 1 - epsilon, 1 + epsilon_high) A)
///   cispo     -min(r, epsilon_high) A logp, no gradient through the ratio   (MiniMax-M1)
///   sapo      -sigmoid(t (r - 1)) 4 / t A, t by the sign of A               (SAPO)
///   vespo     -phi(w) A logp, phi(w) = e^l w^k e^(-l w), w the sequence's ratio, no gradient
///   (VESPO) gmpo      -A exp(mean of the log-ratios, each clipped on its advantage's side to
///             [-epsilon, epsilon_high])                                     (GMPO)
///   clip_cov  PPO's, with no gradient for a random share clip_cov_ratio of the tokens whose
///             covariance (A - mean A)(logp - mean logp) is in (clip_cov_low, clip_cov_high)
///   kl_cov    -r A, plus kl_cov_coef |logp - old| on the kl_cov_ratio tokens of largest covariance
///             (Cui et al. 2025)
/// plus beta times the KL estimate: k3 exp(d) - d - 1 with d = ref - logp, k2 d^2 / 2, k1 -d; times
/// r with use_bias_correction_kl. Over tokens
///   grpo sapo         mean over completions of the mean over their tokens
///   gmpo              mean over completions
///   luspo             mean over completions of the sum over their tokens
///   dr_grpo           sum / (completions * max_completion_length)
///   bnpo and the rest sum / tokens that count
/// Exponents are cut at 80, where float32 would soon overflow; up to there nothing is bounded that
/// TRL does not bound (VESPO's logarithms, at 20).
/// The entropy bonus is -entropy_coef times the mean entropy of the tokens that count and
/// the entropy mask keeps. Counts are
/// those of the whole update, so nothing depends on the micro-batches; where TRL divides by a
/// micro-batch's count (bnpo) ours is the whole update's.
/// off_policy_mask_threshold drops completions of negative advantage whose mean log(sampling / pi)
/// exceeds it (DeepSeek-V3.2). Metrics as TRL: kl, clip_ratio/*, cispo_clip_ratio,
/// vespo/phi_seq_mean.
LossOutput policy_gradient_loss(const PolicyGradientInputs& inputs,
                                const PolicyGradientOptions& options,
                                const PolicyGradientTotals& totals);

/// Estimate of KL(policy || reference) from d = log reference - log policy of what the policy
/// sampled: "k1" -d, "k2" d^2 / 2, "k3" exp(d) - d - 1 (Schulman 2020). Throws InternalError on
/// another name.
at::Tensor kl_estimate(const at::Tensor& log_ratio, const std::string& estimator);

/// exp(old - sampling), float32 [M], made bounded: "token_truncate" within [floor, cap],
/// "token_mask" 0 outside, "sequence_truncate" and "sequence_mask" the same for the product over a
/// completion's tokens. NaN sampling log-probabilities count as no difference. TRL's
/// vllm_importance_sampling_mode with its clip_min and clip_max.
at::Tensor importance_sampling_correction(const at::Tensor& old_logprobs_M,
                                          const at::Tensor& sampling_logprobs_M,
                                          const at::Tensor& mask_M, const at::Tensor& completion_M,
                                          int64_t num_completions, const std::string& mode,
                                          double cap, double floor = 0.0);

/// The names of PolicyGradientOptions::loss_type.
const std::vector<std::string>& policy_gradient_loss_types();

}  // namespace meed
