#include "libreward/losses/bradley_terry.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <limits>

#include "libpolicy/core/error.h"

namespace meed {
namespace {

/// float64 stays, everything else is computed in float32.
at::Tensor at_least_float(const at::Tensor& values) {
  return values.scalar_type() == at::kDouble ? values : values.to(at::kFloat);
}

LossOutput with_metrics(const at::Tensor& losses_B, const at::Tensor& chosen,
                        const at::Tensor& rejected, double num_pairs) {
  LossOutput output{.loss = losses_B.sum() / num_pairs, .metrics = {}};
  const auto count = static_cast<double>(chosen.numel());
  const auto both = at::cat({chosen, rejected}).detach();
  output.metrics["accuracy"] = {(chosen > rejected).sum().item<double>(), count};
  output.metrics["margin"] = {(chosen - rejected).detach().sum().item<double>(), count};
  output.metrics["mean_reward"] = {both.sum().item<double>(), 2.0 * count};
  if (both.numel() == 0) return output;
  output.metrics["min_reward"] = {both.min().item<double>(), 1.0, Reduce::kMin};
  output.metrics["max_reward"] = {both.max().item<double>(), 1.0, Reduce::kMax};
  return output;
}

}  // namespace

LossOutput bradley_terry_loss(const at::Tensor& chosen_B, const at::Tensor& rejected_B,
                              const at::Tensor& margins_B, double center_rewards_coefficient,
                              double num_pairs) {
  const auto chosen = at_least_float(chosen_B), rejected = at_least_float(rejected_B);
  auto difference_B = chosen - rejected;
  if (margins_B.defined()) difference_B = difference_B - margins_B.to(chosen.scalar_type());
  auto losses_B = -at::log_sigmoid(difference_B);
  if (center_rewards_coefficient > 0.0)
    losses_B = losses_B + center_rewards_coefficient * (chosen + rejected).square();
  return with_metrics(losses_B, chosen, rejected, num_pairs);
}

LossOutput strength_loss(const at::Tensor& chosen_B, const at::Tensor& rejected_B,
                         const at::Tensor& strengths_B, const std::string& kind, double num_pairs) {
  const auto chosen = at_least_float(chosen_B), rejected = at_least_float(rejected_B);
  const auto strengths = strengths_B.to(chosen.scalar_type());
  MEED_CHECK(kind == "regular" || kind == "margin" || kind == "scaled",
             "unknown strength loss " + kind);
  MEED_CHECK(!(strengths < 0).any().item<bool>(), "strengths are not negative");
  auto losses_B =
      -at::log_sigmoid(kind == "margin" ? chosen - rejected - strengths : chosen - rejected);
  if (kind == "scaled") losses_B = losses_B * strengths;
  return with_metrics(losses_B, chosen, rejected, num_pairs);
}

LossOutput soft_preference_loss(const at::Tensor& chosen_B, const at::Tensor& rejected_B,
                                const at::Tensor& probabilities_B, double num_pairs) {
  const auto chosen = at_least_float(chosen_B), rejected = at_least_float(rejected_B);
  const auto p = probabilities_B.to(chosen.scalar_type());
  const auto losses_B =
      -p * at::log_sigmoid(chosen - rejected) - (1.0 - p) * at::log_sigmoid(rejected - chosen);
  return with_metrics(losses_B, chosen, rejected, num_pairs);
}

PreferenceStrength preference_strength(const at::Tensor& differences_MB) {
  const auto values = differences_MB.detach().to(at::kDouble);
  MEED_CHECK(values.dim() == 2 && values.size(0) > 0, "differences of at least one model");
  const auto mean_B = values.mean(/*dim=*/0);
  return {mean_B,
          values.size(0) > 1 ? values.std(/*dim=*/0, /*unbiased=*/true) : at::zeros_like(mean_B)};
}

at::Tensor suspect_labels(const at::Tensor& mean_strength_B, double share) {
  MEED_CHECK(share >= 0.0 && share <= 1.0, "a share is in [0, 1]");
  const auto count = static_cast<int64_t>(share * static_cast<double>(mean_strength_B.numel()));
  auto suspects = at::zeros_like(mean_strength_B, at::kBool);
  if (count == 0) return suspects;
  const auto lowest = std::get<1>(mean_strength_B.topk(count, /*dim=*/-1, /*largest=*/false));
  return suspects.index_fill(0, lowest, true).logical_and(mean_strength_B < 0);
}

LossOutput critique_score_loss(const at::Tensor& critique_logprobs_M, const at::Tensor& chosen_B,
                               const at::Tensor& rejected_B, double num_critique_tokens,
                               double num_pairs) {
  auto output = bradley_terry_loss(chosen_B, rejected_B, {}, 0.0, num_pairs);
  const auto critique = -critique_logprobs_M.sum() / std::max(1.0, num_critique_tokens);
  output.metrics["critique_loss"] = {-critique_logprobs_M.detach().sum().item<double>(),
                                     static_cast<double>(critique_logprobs_M.numel())};
  output.loss = output.loss + critique;
  return output;
}

}  // namespace meed
