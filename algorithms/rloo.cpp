#include <ATen/ATen.h>

#include <cmath>
#include <limits>

#include "algorithms/rollout_update_loop.h"
#include "algorithms/token_rewards.h"
#include "libpolicy/distributed/moments.h"
#include "libpolicy/losses/advantages.h"
#include "libpolicy/losses/policy_gradient.h"

namespace meed {
namespace {

constexpr double kEpsilon = 1e-4;

/// REINFORCE leave-one-out (Ahmadian et al. 2024) as TRL's RLOOTrainer: the KL of the whole
/// completion is taken off its reward, the baseline is the mean of the group's others, the ratio is
/// the sequence's.
class Rloo final : public OnlineAlgorithm {
 public:
  struct Config {
    double beta = 0.05;
    double epsilon = 0.2;
    std::optional<double> epsilon_high;
    int64_t num_iterations = 1;
    bool normalize_advantages = false;
    std::vector<double> reward_clip_range;
    bool mask_truncated_completions = false;
    ReferenceSync reference;
    void fields(FieldVisitor& v) {
      v.field(
          "beta", beta,
          "Weight of a completion's KL to the reference in its reward; 0: no reference is held.");
      v.field("epsilon", epsilon, "Lower clip range of the sequence's ratio.");
      v.field("epsilon_high", epsilon_high, "Upper clip range; null: epsilon.");
      v.field("num_iterations", num_iterations, "Passes over each generation.");
      v.field("normalize_advantages", normalize_advantages,
              "Standardise advantages over all completions of the generation.");
      v.field("reward_clip_range", reward_clip_range,
              "[low, high] that rewards are kept within before the KL; empty: not.");
      v.field("mask_truncated_completions", mask_truncated_completions,
              "Leave completions that hit the length limit out of the loss.");
      reference.fields(v);
      v.require(beta >= 0, "beta", "must not be negative");
      v.require(epsilon > 0, "epsilon", "must be positive");
      v.require(!epsilon_high || *epsilon_high > 0, "epsilon_high", "must be positive, or null");
      v.require(num_iterations > 0, "num_iterations", "must be positive");
      v.require(reward_clip_range.empty() ||
                    (reward_clip_range.size() == 2 && reward_clip_range[0] < reward_clip_range[1]),
                "reward_clip_range", "must be two rising numbers, or empty");
      v.require(!reference.sync_ref_model || beta > 0, "sync_ref_model",
                "needs a beta above 0: without one no reference is held");
    }
  };
  explicit Rloo(const Config& config) : config_(config) {}

  int64_t num_iterations() const override { return config_.num_iterations; }
  bool needs_reference() const override { return config_.beta > 0.0; }
  bool mask_truncated_completions() const override { return config_.mask_truncated_completions; }
  std::optional<ReferenceSync> reference_sync() const override { return config_.reference; }
  bool by_token() const override { return true; }
  bool learns_without_advantage() const override { return false; }

  at::Tensor advantages(const ScoredRollouts& rollouts, Communicator&) override {
    return at::zeros_like(rollouts.rewards_PG, at::kFloat);
  }

  /// Every token of a completion gets the completion's advantage.
  void token_advantages(const ScoredRollouts& rollouts, std::span<CompletionTokens> completions,
                        Communicator& comm, MetricsWriter& metrics) override {
    auto rewards_PG = rollouts.rewards_PG.clone();
    const auto& range = config_.reward_clip_range;
    if (!range.empty()) rewards_PG.clamp_(range[0], range[1]);
    double kl_sum = 0.0, tokens = 0.0;
    for (const auto& each : completions) {
      if (!each.ref_logprobs_T.defined()) continue;
      const double kl = ((each.old_logprobs_T - each.ref_logprobs_T) * each.mask_T)
                            .sum(at::kDouble)
                            .item<double>();
      rewards_PG[static_cast<int64_t>(each.group)][static_cast<int64_t>(each.index)] -=
          config_.beta * kl;
      kl_sum += kl;
      tokens += each.mask_T.sum().item<double>();
    }
    if (tokens > 0) metrics.record("kl", kl_sum / tokens, Reduce::kMean, tokens);
    auto advantages_PG =
        completion_advantages("rloo", rewards_PG, at::zeros_like(rewards_PG), "none", comm);
    if (config_.normalize_advantages) advantages_PG = normalized(advantages_PG, rewards_PG, comm);
    for (auto& each : completions)
      each.advantages_T =
          advantages_PG[static_cast<int64_t>(each.group)][static_cast<int64_t>(each.index)].expand(
              {each.mask_T.numel()});
  }

  LossOutput loss(const PolicyBatch& batch, const UpdateTotals& totals, int64_t) override {
    return policy_gradient_loss(
        {.logprobs_M = batch.logprobs_M,
         .old_logprobs_M = batch.old_logprobs_M,
         .mask_M = batch.mask_M,
         .completion_M = batch.completion_M,
         .advantages_M = batch.advantages_M},
        {.loss_type = "grpo",
         .epsilon = config_.epsilon,
         .epsilon_high = config_.epsilon_high.value_or(config_.epsilon),
         .importance_sampling_level = "sequence_sum"},
        {.num_tokens = totals.num_tokens, .num_completions = totals.num_completions});
  }

 private:
  /// Over the completions that have a reward.
  static at::Tensor normalized(const at::Tensor& advantages_PG, const at::Tensor& rewards_PG,
                               Communicator& comm) {
    const auto known = rewards_PG.isfinite();
    const auto nan = at::full({}, std::numeric_limits<double>::quiet_NaN(), at::kDouble);
    const auto values = at::where(known, advantages_PG.to(at::kDouble), nan);
    const auto moments = global_moments(values, comm);
    return at::where(known, (values - moments.mean) / (moments.std + kEpsilon),
                     at::zeros({}, at::kDouble))
        .to(at::kFloat);
  }

  Config config_;
};

MEED_REGISTER(algorithms, "rloo", Rloo,
              "REINFORCE with the mean of the group's others as baseline, as TRL's RLOO.");

}  // namespace
}  // namespace meed
