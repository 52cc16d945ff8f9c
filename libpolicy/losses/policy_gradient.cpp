#include "libpolicy/losses/policy_gradient.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "libpolicy/core/error.h"

namespace meed {
namespace {

/// exp() of a larger log-ratio would overflow float32 in the sums; such a ratio is clipped by any
/// epsilon.
constexpr double kMaxLogRatio = 20.0;

/// Zeros where a token does not count: a NaN there must reach neither a sum nor, by 0 * NaN, a
/// gradient.
PolicyGradientInputs without_masked(PolicyGradientInputs in) {
  const auto counts_M = in.mask_M > 0;
  const auto zero = at::zeros({}, at::kFloat);
  for (auto* values_M : {&in.logprobs_M, &in.old_logprobs_M, &in.ref_logprobs_M})
    if (values_M->defined()) *values_M = at::where(counts_M, *values_M, zero);
  return in;
}

at::Tensor sum_by_completion(const at::Tensor& values_M, const PolicyGradientInputs& in) {
  return at::zeros({in.advantages_C.numel()}, values_M.options())
      .index_add(0, in.completion_M, values_M);
}

/// log r per token; per sequence, the mean over its tokens.
at::Tensor log_ratios(const PolicyGradientInputs& in, const PolicyGradientOptions& options) {
  const auto log_ratio_M = (in.logprobs_M - in.old_logprobs_M).clamp(-kMaxLogRatio, kMaxLogRatio);
  if (options.importance_sampling_level == "token") return log_ratio_M;
  const auto counts_C = sum_by_completion(in.mask_M, in).clamp_min(1.0);
  return (sum_by_completion(log_ratio_M * in.mask_M, in) / counts_C)
      .index_select(0, in.completion_M);
}

at::Tensor token_weights(const PolicyGradientInputs& in, const PolicyGradientOptions& options,
                         const PolicyGradientTotals& totals) {
  if (options.loss_type == "grpo") {
    const auto counts_C = sum_by_completion(in.mask_M, in).clamp_min(1.0);
    return in.mask_M / counts_C.index_select(0, in.completion_M) /
           std::max(1.0, totals.num_completions);
  }
  if (options.loss_type == "dr_grpo")
    return in.mask_M / std::max(1.0, totals.num_completions *
                                         static_cast<double>(totals.max_completion_length));
  MEED_CHECK(options.loss_type == "bnpo" || options.loss_type == "dapo",
             "unknown loss_type " + options.loss_type);
  return in.mask_M / std::max(1.0, totals.num_tokens);
}

void note_clipping(LossOutput& output, const PolicyGradientInputs& in, const at::Tensor& low_M,
                   const at::Tensor& high_M) {
  const double tokens = in.mask_M.sum().item<double>();
  const auto counts_C = sum_by_completion(in.mask_M, in);
  const auto share_C = [&](const at::Tensor& clipped_M) {
    return sum_by_completion(clipped_M, in) / counts_C.clamp_min(1.0);
  };
  const auto low = low_M * in.mask_M, high = high_M * in.mask_M;
  output.metrics["clip_ratio/low_mean"] = {low.sum().item<double>(), tokens};
  output.metrics["clip_ratio/high_mean"] = {high.sum().item<double>(), tokens};
  output.metrics["clip_ratio/region_mean"] = {(low + high).sum().item<double>(), tokens};
  if (tokens <= 0.0) return;
  output.metrics["clip_ratio/low_min"] = {share_C(low).min().item<double>(), 1.0, Reduce::kMin};
  output.metrics["clip_ratio/high_max"] = {share_C(high).max().item<double>(), 1.0, Reduce::kMax};
}

}  // namespace

LossOutput policy_gradient_loss(const PolicyGradientInputs& inputs,
                                const PolicyGradientOptions& options,
                                const PolicyGradientTotals& totals) {
  const PolicyGradientInputs in = without_masked(inputs);
  const auto advantages_M = in.advantages_C.index_select(0, in.completion_M);
  const auto ratio_M = log_ratios(in, options).exp();
  const auto clipped_M = ratio_M.clamp(1.0 - options.epsilon, 1.0 + options.epsilon_high);
  const auto bounded_M = options.delta ? ratio_M.clamp_max(*options.delta) : ratio_M;
  auto loss_M = -at::minimum(bounded_M * advantages_M, clipped_M * advantages_M);
  LossOutput output;
  const double tokens = in.mask_M.sum().item<double>();
  if (options.beta != 0.0) {
    const auto gap_M = (in.ref_logprobs_M - in.logprobs_M).clamp(-kMaxLogRatio, kMaxLogRatio);
    auto kl_M = gap_M.exp() - gap_M - 1.0;
    if (options.use_bias_correction_kl) kl_M = kl_M * ratio_M;
    loss_M = loss_M + options.beta * kl_M;
    output.metrics["kl"] = {(kl_M.detach() * in.mask_M).sum().item<double>(), tokens};
  }
  output.loss = (loss_M * token_weights(in, options, totals)).sum();
  const auto ratio = ratio_M.detach();
  const auto low_M = ((ratio < 1.0 - options.epsilon) & (advantages_M < 0)).to(at::kFloat);
  const auto high_M = ((ratio > 1.0 + options.epsilon_high) & (advantages_M > 0)).to(at::kFloat);
  note_clipping(output, in, low_M, high_M);
  return output;
}

}  // namespace meed
