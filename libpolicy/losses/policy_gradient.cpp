#include "libpolicy/losses/policy_gradient.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#include "libpolicy/core/error.h"
#include "libpolicy/losses/covariance_selection.h"

namespace meed {
namespace {

/// exp() of more would overflow float32 here or in the sums: a larger exponent is cut to this, with
/// no gradient beyond it. TRL has no such bound: it gives the same up to here, inf or NaN soon
/// after.
constexpr double kMaxExponent = 80.0;

/// VESPO's bounds of its logarithms, as TRL.
constexpr double kMaxVespoLog = 20.0;
const double kSmallestVespoLog = std::log(1e-8);

/// Zeros where a token does not count: a NaN there must reach neither a sum nor, by 0 * NaN, a
/// gradient.
PolicyGradientInputs without_masked(PolicyGradientInputs in) {
  const auto counts_M = in.mask_M > 0;
  const auto zero = at::zeros({}, at::kFloat);
  for (auto* values_M : {&in.logprobs_M, &in.old_logprobs_M, &in.ref_logprobs_M, &in.advantages_M,
                         &in.entropy_M, &in.sampling_logprobs_M, &in.importance_ratio_M})
    if (values_M->defined()) *values_M = at::where(counts_M, *values_M, zero);
  return in;
}

/// One call's tensors and what several terms read of them.
struct Terms {
  const PolicyGradientInputs& in;
  const PolicyGradientOptions& options;
  int64_t num_completions;
  at::Tensor counts_C;      ///< tokens that count, at least 1
  at::Tensor advantages_M;  ///< per token, whatever was given
  bool by_sequence;

  Terms(const PolicyGradientInputs& inputs, const PolicyGradientOptions& opts)
      : in(inputs), options(opts), by_sequence(opts.importance_sampling_level != "token") {
    num_completions = in.advantages_C.defined()     ? in.advantages_C.numel()
                      : in.completion_M.numel() > 0 ? in.completion_M.max().item<int64_t>() + 1
                                                    : 0;
    counts_C = sum_C(in.mask_M).clamp_min(1.0);
    advantages_M = in.advantages_M.defined() ? in.advantages_M
                                             : in.advantages_C.index_select(0, in.completion_M);
  }
  /// Sums over each completion's tokens.
  at::Tensor sum_C(const at::Tensor& values_M) const {
    return at::zeros({num_completions}, values_M.options()).index_add(0, in.completion_M, values_M);
  }
  /// Each completion's value on its tokens.
  at::Tensor spread(const at::Tensor& values_C) const {
    return values_C.index_select(0, in.completion_M);
  }
  double num_tokens() const { return in.mask_M.sum().item<double>(); }

  at::Tensor log_ratio_M() const {
    const auto log_ratio_M = in.logprobs_M - in.old_logprobs_M;
    return options.pre_clip ? log_ratio_M.clamp(-*options.pre_clip, *options.pre_clip)
                            : log_ratio_M;
  }
  /// log r as the importance sampling level asks, fit for exp().
  at::Tensor weighted_log_ratio_M(const at::Tensor& log_ratio_M) const {
    if (!by_sequence) return log_ratio_M.clamp_max(kMaxExponent);
    const auto sum_of_C = sum_C(log_ratio_M * in.mask_M);
    return spread(options.importance_sampling_level == "sequence" ? sum_of_C / counts_C : sum_of_C)
        .clamp_max(kMaxExponent);
  }
  /// Mean as TRL's metrics: over tokens, or over completions where the ratio is a sequence's.
  MetricSum mean_of(const at::Tensor& values_M) const {
    if (!by_sequence) return {(values_M * in.mask_M).sum().item<double>(), num_tokens()};
    return {share_C(values_M).sum().item<double>(), static_cast<double>(num_completions)};
  }
  at::Tensor share_C(const at::Tensor& values_M) const {
    return sum_C(values_M * in.mask_M) / counts_C;
  }
};

at::Tensor clipped_surrogate(const Terms& terms, const at::Tensor& ratio_M) {
  const auto& options = terms.options;
  const auto clipped_M = ratio_M.clamp(1.0 - options.epsilon, 1.0 + options.epsilon_high);
  const auto bounded_M = options.delta ? ratio_M.clamp_max(*options.delta) : ratio_M;
  return -at::minimum(bounded_M * terms.advantages_M, clipped_M * terms.advantages_M);
}

void note_clipping(const Terms& terms, const at::Tensor& ratio_M, LossOutput& output) {
  const auto& options = terms.options;
  const auto ratio = options.delta ? ratio_M.detach().clamp_max(*options.delta) : ratio_M.detach();
  const auto low = ((ratio < 1.0 - options.epsilon) & (terms.advantages_M < 0)).to(at::kFloat);
  const auto high =
      ((ratio > 1.0 + options.epsilon_high) & (terms.advantages_M > 0)).to(at::kFloat);
  output.metrics["clip_ratio/low_mean"] = terms.mean_of(low);
  output.metrics["clip_ratio/high_mean"] = terms.mean_of(high);
  output.metrics["clip_ratio/region_mean"] = terms.mean_of(low + high);
  if (terms.num_tokens() <= 0.0) return;
  // A completion of which no token counts has no share.
  const auto counts_C = terms.sum_C(terms.in.mask_M) > 0;
  const auto shares_of = [&](const at::Tensor& values_M) {
    return terms.share_C(values_M).masked_select(counts_C);
  };
  output.metrics["clip_ratio/low_min"] = {shares_of(low).min().item<double>(), 1.0, Reduce::kMin};
  output.metrics["clip_ratio/high_max"] = {shares_of(high).max().item<double>(), 1.0, Reduce::kMax};
}

at::Tensor sapo(const Terms& terms, const at::Tensor& ratio_M) {
  const auto temperature_M =
      at::where(terms.advantages_M > 0, at::full({}, terms.options.sapo_temperature_pos),
                at::full({}, terms.options.sapo_temperature_neg));
  return -(temperature_M * (ratio_M - 1.0)).sigmoid() * 4.0 / temperature_M * terms.advantages_M;
}

at::Tensor cispo(const Terms& terms, const at::Tensor& ratio_M, LossOutput& output) {
  const double cap = terms.options.epsilon_high;
  output.metrics["cispo_clip_ratio"] =
      terms.mean_of(((ratio_M.detach() > cap) & (terms.advantages_M > 0)).to(at::kFloat));
  return -ratio_M.detach().clamp_max(cap) * terms.advantages_M * terms.in.logprobs_M;
}

at::Tensor vespo(const Terms& terms, LossOutput& output) {
  const auto& in = terms.in;
  const auto& options = terms.options;
  const auto log_ratio_M =
      (in.logprobs_M - in.old_logprobs_M).detach().clamp(-kMaxVespoLog, kMaxVespoLog);
  auto log_w_C = terms.sum_C(log_ratio_M * in.mask_M);
  if (in.importance_ratio_M.defined()) {
    const auto log_M = in.importance_ratio_M.log().clamp(kSmallestVespoLog, kMaxVespoLog);
    log_w_C = log_w_C + (options.importance_ratio_by_sequence ? terms.share_C(log_M)
                                                              : terms.sum_C(log_M * in.mask_M));
  }
  const auto log_w_M = terms.spread(log_w_C.clamp(kSmallestVespoLog, kMaxVespoLog));
  const auto up_M = terms.advantages_M >= 0;
  const auto k_M =
      at::where(up_M, at::full({}, options.vespo_k_pos), at::full({}, options.vespo_k_neg));
  const auto lambda_M = at::where(up_M, at::full({}, options.vespo_lambda_pos),
                                  at::full({}, options.vespo_lambda_neg))
                            .clamp_min(1e-4);
  const auto phi_M =
      (lambda_M + k_M * log_w_M - lambda_M * log_w_M.exp()).exp().nan_to_num(0, 0, 0);
  Terms whole = terms;  // phi is one number for a completion
  whole.by_sequence = true;
  output.metrics["vespo/phi_seq_mean"] = whole.mean_of(phi_M);
  return -phi_M * terms.advantages_M * in.logprobs_M;
}

/// A completion's loss on each of its tokens, so that the mean over tokens gives it back.
at::Tensor gmpo(const Terms& terms, const at::Tensor& log_ratio_M) {
  const auto& options = terms.options;
  const auto sign_M = terms.advantages_M.sign();
  const auto clipped_M = log_ratio_M.clamp(-options.epsilon, options.epsilon_high);
  const auto kept_M = sign_M * at::minimum(sign_M * log_ratio_M, sign_M * clipped_M);
  const auto ratio_C =
      (terms.sum_C(kept_M * terms.in.mask_M) / terms.counts_C).clamp_max(kMaxExponent).exp();
  return -terms.spread(ratio_C * terms.share_C(terms.advantages_M));
}

/// 1 on the tokens that clip_cov or kl_cov treats apart.
at::Tensor selected_tokens(const Terms& terms) {
  if (terms.in.selected_M.defined()) return terms.in.selected_M;
  const auto keys_M = at::arange(terms.in.mask_M.numel(), at::kLong);
  return covariance_selection(terms.options, {.logprobs_M = terms.in.logprobs_M.detach(),
                                              .old_logprobs_M = terms.in.old_logprobs_M,
                                              .advantages_M = terms.advantages_M,
                                              .mask_M = terms.in.mask_M,
                                              .keys_M = keys_M});
}

at::Tensor clip_cov(const Terms& terms, const at::Tensor& ratio_M, LossOutput& output) {
  const auto& options = terms.options;
  const auto plain_M = -ratio_M * terms.advantages_M;
  const auto clipped_M =
      -ratio_M.clamp(1.0 - options.epsilon, 1.0 + options.epsilon_high) * terms.advantages_M;
  const auto selected_M = selected_tokens(terms);
  output.metrics["clip_cov/clipped"] = {selected_M.sum().item<double>(), terms.num_tokens()};
  return at::maximum(plain_M, clipped_M) * (1.0 - selected_M);
}

at::Tensor kl_cov(const Terms& terms, const at::Tensor& log_ratio_M, const at::Tensor& ratio_M) {
  return -ratio_M * terms.advantages_M +
         terms.options.kl_cov_coef * log_ratio_M.abs() * selected_tokens(terms);
}

at::Tensor policy_terms(const Terms& terms, const at::Tensor& log_ratio_M,
                        const at::Tensor& ratio_M, LossOutput& output) {
  const auto& type = terms.options.loss_type;
  if (type == "cispo") return cispo(terms, ratio_M, output);
  if (type == "sapo") return sapo(terms, ratio_M);
  if (type == "vespo") return vespo(terms, output);
  if (type == "gmpo") return gmpo(terms, log_ratio_M);
  if (type == "clip_cov") return clip_cov(terms, ratio_M, output);
  if (type == "kl_cov") return kl_cov(terms, log_ratio_M, ratio_M);
  note_clipping(terms, ratio_M, output);
  return clipped_surrogate(terms, ratio_M);
}

at::Tensor reference_kl(const Terms& terms, const at::Tensor& ratio_M) {
  const auto gap_M = (terms.in.ref_logprobs_M - terms.in.logprobs_M).clamp_max(kMaxExponent);
  const auto kl_M = kl_estimate(gap_M, terms.options.kl_estimator);
  return terms.options.use_bias_correction_kl ? kl_M * ratio_M : kl_M;
}

/// 1 on completions to keep: a positive advantage, or close to the sampling policy.
at::Tensor on_policy_mask(const Terms& terms) {
  const auto& in = terms.in;
  const auto sampling_M =
      in.sampling_logprobs_M.defined() ? in.sampling_logprobs_M : in.old_logprobs_M;
  const auto gap_M = (sampling_M - in.logprobs_M.detach()).nan_to_num(0.0);
  const auto far_M = terms.spread(terms.share_C(gap_M)) > *terms.options.off_policy_mask_threshold;
  return ((terms.advantages_M >= 0) | far_M.logical_not()).to(at::kFloat);
}

at::Tensor token_weights(const Terms& terms, const PolicyGradientTotals& totals) {
  const auto& type = terms.options.loss_type;
  const auto& mask_M = terms.in.mask_M;
  const double completions = std::max(1.0, totals.num_completions);
  if (type == "grpo" || type == "sapo" || type == "gmpo")
    return mask_M / terms.spread(terms.counts_C) / completions;
  if (type == "luspo") return mask_M / completions;
  if (type == "dr_grpo")
    return mask_M / std::max(1.0, completions * static_cast<double>(totals.max_completion_length));
  return mask_M / std::max(1.0, totals.num_tokens);
}

}  // namespace

const std::vector<std::string>& policy_gradient_loss_types() {
  static const std::vector<std::string> types = {"grpo",  "bnpo",     "dr_grpo", "dapo",
                                                 "luspo", "cispo",    "sapo",    "vespo",
                                                 "gmpo",  "clip_cov", "kl_cov"};
  return types;
}

LossOutput policy_gradient_loss(const PolicyGradientInputs& inputs,
                                const PolicyGradientOptions& options,
                                const PolicyGradientTotals& totals) {
  const auto& types = policy_gradient_loss_types();
  MEED_CHECK(std::find(types.begin(), types.end(), options.loss_type) != types.end(),
             "unknown loss_type " + options.loss_type);
  const auto& level = options.importance_sampling_level;
  MEED_CHECK(level == "token" || level == "sequence" || level == "sequence_sum",
             "unknown importance_sampling_level " + level);
  const PolicyGradientInputs in = without_masked(inputs);
  const Terms terms(in, options);
  const auto log_ratio_M = terms.log_ratio_M();
  const auto ratio_M = terms.weighted_log_ratio_M(log_ratio_M).exp();
  LossOutput output;
  auto loss_M = policy_terms(terms, log_ratio_M, ratio_M, output);
  if (options.off_policy_mask_threshold) loss_M = loss_M * on_policy_mask(terms);
  if (in.entropy_mask_M.defined()) loss_M = loss_M * in.entropy_mask_M;
  if (in.importance_ratio_M.defined() && options.loss_type != "vespo")
    loss_M = loss_M * in.importance_ratio_M;
  if (options.beta != 0.0) {
    const auto kl_M = reference_kl(terms, ratio_M);
    loss_M = loss_M + options.beta * kl_M;
    output.metrics["kl"] = {(kl_M.detach() * in.mask_M).sum().item<double>(), terms.num_tokens()};
  }
  output.loss = (loss_M * token_weights(terms, totals)).sum();
  if (options.entropy_coef != 0.0) {
    MEED_CHECK(in.entropy_M.defined(), "entropy_coef needs entropies");
    output.metrics["policy_loss"] = {output.loss.detach().item<double>(), 1.0, Reduce::kSum};
    const auto counts_M = in.entropy_mask_M.defined() ? in.mask_M * in.entropy_mask_M : in.mask_M;
    const double count =
        totals.num_entropy_tokens > 0.0 ? totals.num_entropy_tokens : totals.num_tokens;
    output.loss =
        output.loss - options.entropy_coef * (in.entropy_M * counts_M).sum() / std::max(1.0, count);
  }
  return output;
}

at::Tensor kl_estimate(const at::Tensor& log_ratio, const std::string& estimator) {
  if (estimator == "k1") return -log_ratio;
  if (estimator == "k2") return 0.5 * log_ratio.square();
  MEED_CHECK(estimator == "k3", "unknown kl_estimator " + estimator);
  return log_ratio.exp() - log_ratio - 1.0;
}

at::Tensor importance_sampling_correction(const at::Tensor& old_logprobs_M,
                                          const at::Tensor& sampling_logprobs_M,
                                          const at::Tensor& mask_M, const at::Tensor& completion_M,
                                          int64_t num_completions, const std::string& mode,
                                          double cap, double floor) {
  const auto gap_M = (old_logprobs_M - sampling_logprobs_M).nan_to_num(0.0) * mask_M;
  auto log_M = gap_M;
  if (mode.starts_with("sequence"))
    log_M = at::zeros({num_completions}, gap_M.options())
                .index_add(0, completion_M, gap_M)
                .index_select(0, completion_M);
  const auto ratio_M = log_M.exp();
  if (mode.ends_with("truncate")) return ratio_M.clamp(floor, cap);
  MEED_CHECK(mode.ends_with("mask"), "unknown importance sampling mode " + mode);
  return ratio_M.masked_fill((ratio_M > cap) | (ratio_M < floor), 0.0);
}

}  // namespace meed
