#include <ATen/ATen.h>

#include "algorithms/rollout_update_loop.h"
#include "libpolicy/core/error.h"
#include "libpolicy/losses/advantages.h"
#include "libpolicy/losses/policy_gradient.h"

namespace meed {
namespace {

/// Group relative policy optimisation (Shao et al. 2024) with the normalisations of Dr. GRPO, BNPO
/// and DAPO.
class Grpo final : public OnlineAlgorithm {
 public:
  struct Config {
    std::string loss_type = "dapo";
    double beta = 0.0;
    double epsilon = 0.2;
    std::optional<double> epsilon_high;
    std::optional<double> delta;
    std::string importance_sampling_level = "token";
    std::string scale_rewards = "group";
    int64_t num_iterations = 1;
    bool mask_truncated_completions = false;
    void fields(FieldVisitor& v) {
      v.choice("loss_type", loss_type, {"grpo", "bnpo", "dr_grpo", "dapo"},
               "grpo: mean over sequences of their token means; bnpo and dapo: mean over tokens; "
               "dr_grpo: sum over tokens by "
               "completions x max_completion_length.");
      v.field(
          "beta", beta,
          "Weight of the KL divergence to the reference (k3 estimator); 0: no reference is held.");
      v.field("epsilon", epsilon, "Lower clip range of the ratio.");
      v.field("epsilon_high", epsilon_high, "Upper clip range; null: epsilon.");
      v.field("delta", delta,
              "Upper bound of the ratio where the advantage is negative (two-sided clipping); "
              "null: none.");
      v.choice("importance_sampling_level", importance_sampling_level, {"token", "sequence"},
               "Ratio per token, or per sequence (GSPO).");
      v.choice("scale_rewards", scale_rewards, {"group", "batch", "none"},
               "Divide advantages by the group's, the batch's or no standard deviation.");
      v.field("num_iterations", num_iterations, "Passes over each generation.");
      v.field("mask_truncated_completions", mask_truncated_completions,
              "Leave completions that hit the length limit out of the loss.");
      v.require(beta >= 0, "beta", "must not be negative");
      v.require(epsilon > 0, "epsilon", "must be positive");
      v.require(!epsilon_high || *epsilon_high > 0, "epsilon_high", "must be positive, or null");
      v.require(!delta || *delta > 1, "delta", "must be above 1, or null");
      v.require(num_iterations > 0, "num_iterations", "must be positive");
    }
  };

  explicit Grpo(const Config& config) : config_(config) {}

  int64_t num_iterations() const override { return config_.num_iterations; }
  bool needs_reference() const override { return config_.beta > 0.0; }
  bool mask_truncated_completions() const override { return config_.mask_truncated_completions; }

  at::Tensor advantages(const ScoredRollouts& rollouts, Communicator& comm) override {
    return group_advantages(rollouts.rewards_PG, config_.scale_rewards, comm);
  }

  LossOutput loss(const PolicyBatch& batch, const UpdateTotals& totals,
                  int64_t max_completion_length) override {
    return policy_gradient_loss({.logprobs_M = batch.logprobs_M,
                                 .old_logprobs_M = batch.old_logprobs_M,
                                 .ref_logprobs_M = batch.ref_logprobs_M,
                                 .mask_M = batch.mask_M,
                                 .completion_M = batch.completion_M,
                                 .advantages_C = batch.advantages_C},
                                {.loss_type = config_.loss_type,
                                 .beta = config_.beta,
                                 .epsilon = config_.epsilon,
                                 .epsilon_high = config_.epsilon_high.value_or(config_.epsilon),
                                 .delta = config_.delta,
                                 .importance_sampling_level = config_.importance_sampling_level},
                                {.num_tokens = totals.num_tokens,
                                 .num_completions = totals.num_completions,
                                 .max_completion_length = max_completion_length});
  }

 private:
  Config config_;
};

MEED_REGISTER(algorithms, "grpo", Grpo,
              "Group relative policy optimisation: GRPO, Dr. GRPO, BNPO, DAPO and GSPO's ratio.");

}  // namespace
}  // namespace meed
