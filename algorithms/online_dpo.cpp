#include <ATen/ATen.h>

#include <algorithm>

#include "algorithms/group_selection.h"
#include "algorithms/pair_batch.h"
#include "algorithms/rollout_update_loop.h"
#include "libpolicy/losses/dpo.h"

namespace meed {
namespace {

/// Online DPO (Guo et al. 2024): the policy's own completions are the pairs, the best of a group by
/// reward against its worst. A judge is the reward win_rate. With sync_ref_model and
/// ref_model_mixup_alpha 1 it is iterative DPO, a round being ref_model_sync_steps updates.
class OnlineDpo final : public OnlineAlgorithm {
 public:
  struct Config {
    DpoOptions loss;
    double dynamic_beta_w = 0.0, dynamic_beta_k = 0.5;
    double min_reward_gap = 0.0;
    int64_t num_iterations = 1;
    bool mask_truncated_completions = false;
    ReferenceSync reference;
    void fields(FieldVisitor& v) {
      v.field("loss_type", loss.loss_type, "One or several of dpo's losses.");
      v.field("loss_weights", loss.loss_weights, "A weight for each loss_type; empty: all 1.");
      v.field("beta", loss.beta, "Strength of the pull to the reference (IPO: tau).");
      v.field("label_smoothing", loss.label_smoothing,
              "Probability that a preference is the wrong way round.");
      v.field(
          "dynamic_beta_w", dynamic_beta_w,
          "MM-DPO: beta becomes beta (1 + w (1 - exp(-k gap))), the gap being the difference of "
          "the pair's rewards; 0: beta itself.");
      v.field("dynamic_beta_k", dynamic_beta_k, "MM-DPO: how fast beta rises with the gap.");
      v.field("min_reward_gap", min_reward_gap,
              "Groups whose best and worst reward differ by less are left out (FLR: 0.1).");
      v.field("num_iterations", num_iterations, "Passes over each generation.");
      v.field("mask_truncated_completions", mask_truncated_completions,
              "Leave completions that hit the length limit out of the loss.");
      reference.fields(v);
      for (const auto& type : loss.loss_type) {
        v.require(!type.starts_with("aot"), "loss_type",
                  "cannot be " + type + ": it sorts the pairs of a whole batch");
      }
      require_dpo_options(v, loss, dynamic_beta_w, dynamic_beta_k);
      v.require(num_iterations > 0, "num_iterations", "must be positive");
      v.require(min_reward_gap >= 0, "min_reward_gap", "must not be negative");
    }
  };
  explicit OnlineDpo(const Config& config) : config_(config) {}

  int64_t num_iterations() const override { return config_.num_iterations; }
  bool needs_reference() const override { return true; }
  bool mask_truncated_completions() const override { return config_.mask_truncated_completions; }
  std::optional<ReferenceSync> reference_sync() const override { return config_.reference; }
  bool keeps_groups_whole() const override { return true; }
  at::Tensor participants(const ScoredRollouts& rollouts) const override {
    return best_and_worst(rollouts, config_.min_reward_gap) != 0;
  }

  /// Chosen above 0, rejected below; where the beta depends on it, by the gap of their rewards.
  at::Tensor advantages(const ScoredRollouts& rollouts, Communicator&) override {
    const auto sides_PG = best_and_worst(rollouts, config_.min_reward_gap);
    if (config_.dynamic_beta_w <= 0 || rollouts.groups.empty()) return sides_PG;
    const auto pairs_PG = sides_PG != 0;
    const auto rewards_PG = at::where(pairs_PG, rollouts.rewards_PG, at::zeros({}, at::kDouble));
    const auto gaps_P1 = (rewards_PG * sides_PG).sum(1, /*keepdim=*/true);
    return (sides_PG * gaps_P1).to(at::kFloat);
  }

  LossOutput loss(const PolicyBatch& batch, const UpdateTotals& totals, int64_t) override {
    const auto chosen_C = batch.advantages_C > 0, rejected_C = batch.advantages_C < 0;
    const auto policy_C = completion_sums(batch, batch.logprobs_M);
    const auto reference_C = completion_sums(batch, batch.ref_logprobs_M);
    const auto lengths_C = completion_sums(batch, at::ones_like(batch.mask_M));
    DpoInputs in{.policy_chosen_B = policy_C.masked_select(chosen_C),
                 .policy_rejected_B = policy_C.masked_select(rejected_C),
                 .ref_chosen_B = reference_C.masked_select(chosen_C),
                 .ref_rejected_B = reference_C.masked_select(rejected_C),
                 .chosen_lengths_B = lengths_C.masked_select(chosen_C),
                 .rejected_lengths_B = lengths_C.masked_select(rejected_C)};
    if (config_.dynamic_beta_w > 0)
      in.betas_B = dynamic_beta(batch.advantages_C.masked_select(chosen_C), config_.loss.beta,
                                config_.dynamic_beta_w, config_.dynamic_beta_k);
    // "sft" is by token: of both sides, half of which are the chosen's on average.
    return dpo_loss(in, config_.loss,
                    {.num_pairs = std::max(1.0, totals.num_completions / 2.0),
                     .num_chosen_tokens = std::max(1.0, totals.num_tokens / 2.0)});
  }

 private:
  Config config_;
};

MEED_REGISTER(algorithms, "online_dpo", OnlineDpo,
              "DPO on the policy's own completions: the best of a group against its worst.");

}  // namespace
}  // namespace meed
