#include <ATen/ATen.h>

#include "algorithms/rollout_update_loop.h"
#include "libpolicy/core/error.h"
#include "libpolicy/losses/advantages.h"
#include "libpolicy/losses/policy_gradient.h"

namespace meed {
namespace {

/// Group relative policy optimisation (Shao et al. 2024) and its family: the losses of
/// policy_gradient_loss with the advantages of completion_advantages.
class Grpo final : public OnlineAlgorithm {
 public:
  struct Config {
    PolicyGradientOptions loss;
    std::optional<double> epsilon_high;
    std::string advantage_estimator = "group";
    std::string scale_rewards = "group";
    int64_t num_iterations = 1;
    bool mask_truncated_completions = false;
    double top_entropy_quantile = 1.0;
    std::string importance_sampling_correction = "none";
    double importance_sampling_clip_min = 0.0, importance_sampling_clip_max = 3.0;
    void fields(FieldVisitor& v) {
      v.choice("loss_type", loss.loss_type, policy_gradient_loss_types(),
               "grpo, sapo, gmpo: mean over sequences of their token means; luspo: of their sums; "
               "dr_grpo: sum over tokens by completions x max_completion_length; the others: mean "
               "over tokens.");
      v.field("beta", loss.beta,
              "Weight of the KL divergence to the reference; 0: no reference is held.");
      v.choice("kl_estimator", loss.kl_estimator, {"k1", "k2", "k3"}, "Estimator of that KL.");
      v.field("use_bias_correction_kl", loss.use_bias_correction_kl,
              "Multiply the KL estimate by the ratio.");
      v.field("epsilon", loss.epsilon, "Lower clip range of the ratio.");
      v.field("epsilon_high", epsilon_high,
              "Upper clip range (cispo: upper bound of the ratio); null: epsilon.");
      v.field("delta", loss.delta,
              "Upper bound of the ratio where the advantage is negative (two-sided clipping); "
              "null: none.");
      v.choice("importance_sampling_level", loss.importance_sampling_level, {"token", "sequence"},
               "Ratio per token, or per sequence (GSPO).");
      v.choice("advantage_estimator", advantage_estimator, advantage_estimators(),
               "group: GRPO; rloo: less the mean of the others; opo: less the mean by length; gpg; "
               "pass_at_k.");
      v.choice("scale_rewards", scale_rewards, {"group", "batch", "none"},
               "Divide advantages by the group's, the batch's or no standard deviation.");
      v.field("num_iterations", num_iterations, "Passes over each generation.");
      v.field("mask_truncated_completions", mask_truncated_completions,
              "Leave completions that hit the length limit out of the loss.");
      v.field("top_entropy_quantile", top_entropy_quantile,
              "Share of the generation's tokens, those of largest entropy, that learn.");
      v.field("entropy_coef", loss.entropy_coef, "Weight of the entropy bonus.");
      v.field("off_policy_mask_threshold", loss.off_policy_mask_threshold,
              "Drop completions of negative advantage whose mean log-ratio to the sampling policy "
              "is above this; null: none.");
      v.choice("importance_sampling_correction", importance_sampling_correction,
               {"none", "token_truncate", "token_mask", "sequence_truncate", "sequence_mask"},
               "Weigh by the ratio of the training forward to the sampling engine.");
      v.field("importance_sampling_clip_min", importance_sampling_clip_min,
              "Least ratio: smaller ones are raised to it, or masked.");
      v.field("importance_sampling_clip_max", importance_sampling_clip_max,
              "Largest ratio: larger ones are cut to it, or masked.");
      v.field("pre_clip", loss.pre_clip,
              "Bound of the log-ratio before its exponential (StableReinforce: 6.9); null: none.");
      v.field("sapo_temperature_pos", loss.sapo_temperature_pos, "sapo, advantages above 0.");
      v.field("sapo_temperature_neg", loss.sapo_temperature_neg, "sapo, the others.");
      v.field("vespo_k_pos", loss.vespo_k_pos, "vespo, advantages not below 0.");
      v.field("vespo_lambda_pos", loss.vespo_lambda_pos, "vespo, advantages not below 0.");
      v.field("vespo_k_neg", loss.vespo_k_neg, "vespo, advantages below 0.");
      v.field("vespo_lambda_neg", loss.vespo_lambda_neg, "vespo, advantages below 0.");
      v.field("clip_cov_ratio", loss.clip_cov_ratio, "clip_cov: share of tokens left out.");
      v.field("clip_cov_low", loss.clip_cov_low, "clip_cov: least covariance of these.");
      v.field("clip_cov_high", loss.clip_cov_high, "clip_cov: largest covariance of these.");
      v.field("kl_cov_ratio", loss.kl_cov_ratio, "kl_cov: share of tokens with the penalty.");
      v.field("kl_cov_coef", loss.kl_cov_coef, "kl_cov: weight of the penalty.");
      v.require(loss.beta >= 0, "beta", "must not be negative");
      v.require(loss.epsilon > 0, "epsilon", "must be positive");
      v.require(!epsilon_high || *epsilon_high > 0, "epsilon_high", "must be positive, or null");
      v.require(!loss.delta || *loss.delta > 1, "delta", "must be above 1, or null");
      v.require(num_iterations > 0, "num_iterations", "must be positive");
      v.require(top_entropy_quantile > 0 && top_entropy_quantile <= 1, "top_entropy_quantile",
                "must be in (0, 1]");
      v.require(importance_sampling_clip_min >= 0 &&
                    importance_sampling_clip_max > importance_sampling_clip_min,
                "importance_sampling_clip_max", "must be above importance_sampling_clip_min >= 0");
      v.require(!loss.pre_clip || *loss.pre_clip > 0, "pre_clip", "must be positive, or null");
      v.require(loss.sapo_temperature_pos > 0 && loss.sapo_temperature_neg > 0,
                "sapo_temperature_pos", "and sapo_temperature_neg must be positive");
    }
  };

  explicit Grpo(const Config& config) : config_(config) {}

  int64_t num_iterations() const override { return config_.num_iterations; }
  bool needs_reference() const override { return config_.loss.beta > 0.0; }
  bool needs_old_logprobs() const override {
    return config_.importance_sampling_correction != "none";
  }
  double top_entropy_quantile() const override { return config_.top_entropy_quantile; }
  bool mask_truncated_completions() const override { return config_.mask_truncated_completions; }

  at::Tensor advantages(const ScoredRollouts& rollouts, Communicator& comm) override {
    auto lengths_PG = at::zeros_like(rollouts.rewards_PG);
    for (size_t p = 0; p < rollouts.groups.size(); ++p)
      for (size_t g = 0; g < rollouts.groups[p].completions.size(); ++g)
        lengths_PG[static_cast<int64_t>(p)][static_cast<int64_t>(g)] =
            static_cast<double>(rollouts.groups[p].completions[g].token_ids.size());
    return completion_advantages(config_.advantage_estimator, rollouts.rewards_PG, lengths_PG,
                                 config_.scale_rewards, comm);
  }

  LossOutput loss(const PolicyBatch& batch, const UpdateTotals& totals,
                  int64_t max_completion_length) override {
    PolicyGradientInputs in{.logprobs_M = batch.logprobs_M,
                            .old_logprobs_M = batch.old_logprobs_M,
                            .ref_logprobs_M = batch.ref_logprobs_M,
                            .mask_M = batch.mask_M,
                            .completion_M = batch.completion_M,
                            .advantages_C = batch.advantages_C,
                            .entropy_M = batch.entropy_M,
                            .entropy_mask_M = batch.entropy_mask_M,
                            .sampling_logprobs_M = batch.sampling_logprobs_M};
    auto options = config_.loss;
    options.epsilon_high = config_.epsilon_high.value_or(options.epsilon);
    const auto& mode = config_.importance_sampling_correction;
    if (mode != "none") {
      in.importance_ratio_M = importance_sampling_correction(
          batch.old_logprobs_M, batch.sampling_logprobs_M, batch.mask_M, batch.completion_M,
          batch.num_completions, mode, config_.importance_sampling_clip_max,
          config_.importance_sampling_clip_min);
      options.importance_ratio_by_sequence = mode.starts_with("sequence");
    }
    return policy_gradient_loss(in, options,
                                {.num_tokens = totals.num_tokens,
                                 .num_completions = totals.num_completions,
                                 .max_completion_length = max_completion_length,
                                 .num_entropy_tokens = totals.num_entropy_tokens});
  }

 private:
  Config config_;
};

MEED_REGISTER(algorithms, "grpo", Grpo,
              "Group relative policy optimisation with every loss of its family.");

}  // namespace
}  // namespace meed
