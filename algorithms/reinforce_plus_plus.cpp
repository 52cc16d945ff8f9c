#include <ATen/ATen.h>

#include <cmath>

#include "algorithms/token_rewards.h"
#include "libpolicy/losses/gae.h"
#include "libpolicy/losses/policy_gradient.h"

namespace meed {
namespace {

/// REINFORCE++ (Hu 2025): PPO's clipped loss without a critic, the KL to the reference in the token
/// rewards, returns standardised over all tokens of all ranks. With `pre_clip` and
/// `advantage_filter` it is StableReinforce (R1-Reward, Zhang et al. 2025).
class ReinforcePlusPlus final : public OnlineAlgorithm {
 public:
  struct Config {
    static constexpr const char* kShapes = "outcome step token";
    double beta = 0.0;
    std::string kl_estimator = "k1";
    double epsilon = 0.2;
    std::optional<double> epsilon_high;
    double gamma = 1.0;
    int64_t num_iterations = 1;
    std::optional<double> pre_clip, advantage_filter;
    bool mask_truncated_completions = false;
    ReferenceSync reference;
    void fields(FieldVisitor& v) {
      v.field("beta", beta,
              "Weight of the KL to the reference in the rewards; 0: no reference is held.");
      v.choice("kl_estimator", kl_estimator, {"k1", "k2", "k3"}, "Estimator of that KL.");
      v.field("epsilon", epsilon, "Lower clip range of the ratio.");
      v.field("epsilon_high", epsilon_high, "Upper clip range; null: epsilon.");
      v.field("gamma", gamma, "Discount.");
      v.field("num_iterations", num_iterations, "Passes over each generation.");
      v.field("pre_clip", pre_clip,
              "Ratios are kept within [1 / pre_clip, pre_clip] before they are taken the "
              "exponential of, StableReinforce's is 1000; null: not.");
      v.field("advantage_filter", advantage_filter,
              "Standardised advantages beyond this become 0, StableReinforce's is 3; null: none.");
      v.field("mask_truncated_completions", mask_truncated_completions,
              "Leave completions that hit the length limit out of the loss.");
      reference.fields(v);
      v.require(!reference.sync_ref_model || beta > 0, "sync_ref_model",
                "needs a beta above 0: without one no reference is held");
      v.require(beta >= 0, "beta", "must not be negative");
      v.require(epsilon > 0, "epsilon", "must be positive");
      v.require(!epsilon_high || *epsilon_high > 0, "epsilon_high", "must be positive, or null");
      v.require(gamma > 0 && gamma <= 1, "gamma", "must be in (0, 1]");
      v.require(num_iterations > 0, "num_iterations", "must be positive");
      v.require(!pre_clip || *pre_clip > 1, "pre_clip", "must be above 1, or null");
      v.require(!advantage_filter || *advantage_filter > 0, "advantage_filter",
                "must be positive, or null");
    }
  };
  explicit ReinforcePlusPlus(const Config& config) : config_(config) {}

  int64_t num_iterations() const override { return config_.num_iterations; }
  bool needs_reference() const override { return config_.beta > 0.0; }
  bool mask_truncated_completions() const override { return config_.mask_truncated_completions; }
  std::optional<ReferenceSync> reference_sync() const override { return config_.reference; }
  bool by_token() const override { return true; }

  at::Tensor advantages(const ScoredRollouts& rollouts, Communicator&) override {
    return at::zeros_like(rollouts.rewards_PG, at::kFloat);
  }

  void token_advantages(const ScoredRollouts& rollouts, std::span<CompletionTokens> completions,
                        Communicator& comm, MetricsWriter& metrics) override {
    double kl = 0.0;
    for (auto& each : completions) {
      const auto own = token_rewards(rollouts, each, config_.beta, config_.kl_estimator);
      kl += own.kl_sum;
      // Without a critic the advantage is the return from here on.
      each.advantages_T = compute_gae(own.rewards_T, at::zeros_like(own.rewards_T), config_.gamma,
                                      /*lam=*/1.0, each.mask_T)
                              .advantages_T;
    }
    if (const auto count = static_cast<double>(completions.size()); config_.beta > 0)
      metrics.record("objective/kl", count > 0 ? kl / count : 0, Reduce::kMean, count);
    whiten_advantages(completions, comm, config_.advantage_filter.value_or(0.0));
  }

  LossOutput loss(const PolicyBatch& batch, const UpdateTotals& totals, int64_t) override {
    PolicyGradientOptions options{.loss_type = "dapo",
                                  .epsilon = config_.epsilon,
                                  .epsilon_high = config_.epsilon_high.value_or(config_.epsilon)};
    if (config_.pre_clip) options.pre_clip = std::log(*config_.pre_clip);
    return policy_gradient_loss(
        {.logprobs_M = batch.logprobs_M,
         .old_logprobs_M = batch.old_logprobs_M,
         .mask_M = batch.mask_M,
         .completion_M = batch.completion_M,
         .advantages_M = batch.advantages_M},
        options, {.num_tokens = totals.num_tokens, .num_completions = totals.num_completions});
  }

 private:
  Config config_;
};

MEED_REGISTER(algorithms, "reinforce_plus_plus", ReinforcePlusPlus,
              "REINFORCE++ and, with its two filters, StableReinforce.");

}  // namespace
}  // namespace meed
