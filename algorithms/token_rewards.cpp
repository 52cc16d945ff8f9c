#include "algorithms/token_rewards.h"

#include <ATen/ATen.h>

#include <cmath>

#include "libpolicy/core/error.h"
#include "libpolicy/losses/gae.h"
#include "libpolicy/losses/policy_gradient.h"

namespace meed {

TokenRewards token_rewards(const ScoredRollouts& rollouts, const CompletionTokens& completion,
                           double kl_coef, const std::string& kl_estimator) {
  const auto p = static_cast<int64_t>(completion.group), g = static_cast<int64_t>(completion.index);
  const auto mask_T = completion.mask_T.to(at::kDouble);
  TokenRewards result{.rewards_T = at::zeros_like(mask_T)};
  if (completion.ref_logprobs_T.defined()) {
    const auto gap_T =
        (completion.ref_logprobs_T - completion.old_logprobs_T).to(at::kDouble) * mask_T;
    result.rewards_T = -kl_coef * kl_estimate(gap_T, kl_estimator);
    result.kl_sum = -gap_T.sum().item<double>();
  }
  if (!rollouts.tokens_PGT.empty()) {
    const auto& dense = rollouts.tokens_PGT[completion.group][completion.index];
    if (!dense.empty()) {
      if (static_cast<int64_t>(dense.size()) != mask_T.numel())
        throw DataError("a token reward gives " + std::to_string(dense.size()) +
                        " values for a completion of " + std::to_string(mask_T.numel()) +
                        " tokens");
      result.rewards_T = result.rewards_T + at::tensor(dense, at::kDouble);
    }
  }
  const double outcome = terminal_rewards(rollouts)[p][g].item<double>();
  const auto counting = mask_T.nonzero();
  if (std::isfinite(outcome) && counting.numel() > 0)
    result.rewards_T[counting[counting.size(0) - 1][0].item<int64_t>()] += outcome;
  return result;
}

at::Tensor joined(std::span<const CompletionTokens> completions,
                  at::Tensor CompletionTokens::*member) {
  std::vector<at::Tensor> parts;
  for (const auto& each : completions) parts.push_back(each.*member);
  return parts.empty() ? at::empty({0}) : at::cat(parts);
}

std::vector<at::Tensor> split_like(const at::Tensor& values_M,
                                   std::span<const CompletionTokens> completions) {
  std::vector<int64_t> lengths;
  for (const auto& each : completions) lengths.push_back(each.mask_T.numel());
  return lengths.empty() ? std::vector<at::Tensor>{} : values_M.split_with_sizes(lengths);
}

void whiten_advantages(std::span<CompletionTokens> completions, Communicator& comm,
                       double max_abs) {
  const auto advantages_M = whitened(joined(completions, &CompletionTokens::advantages_T),
                                     joined(completions, &CompletionTokens::mask_T), comm, max_abs)
                                .to(at::kFloat);
  const auto parts = split_like(advantages_M, completions);
  for (size_t i = 0; i < completions.size(); ++i) completions[i].advantages_T = parts[i];
}

void ObjectiveSums::record(MetricsWriter& metrics) const {
  if (count <= 0.0) return;
  metrics.record("objective/kl", kl / count, Reduce::kMean, count);
  metrics.record("objective/rlhf_reward", rewards / count, Reduce::kMean, count);
  metrics.record("objective/scores", scores / count, Reduce::kMean, count);
}

}  // namespace meed
