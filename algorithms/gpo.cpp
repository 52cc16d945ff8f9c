#include "libpolicy/losses/gpo.h"

#include <ATen/ATen.h>

#include <limits>

#include "algorithms/group_selection.h"
#include "algorithms/rollout_update_loop.h"

namespace meed {
namespace {

/// General preference optimisation (Zhang et al. 2024): log-ratios to the policy that sampled are
/// regressed on the completions' scores, what a preference model gives against the policy's own
/// other completions (the reward preference_score). With a reward of a completion alone, centred by
/// group, it is reward regression.
class Gpo final : public OnlineAlgorithm {
 public:
  struct Config {
    double beta = 1e-3;
    bool extremes_only = true;
    std::string log_z = "zero";
    int64_t num_iterations = 1;
    bool mask_truncated_completions = false;
    void fields(FieldVisitor& v) {
      v.field("beta", beta,
              "Scores are divided by it: the smaller, the further a generation moves.");
      v.field("extremes_only", extremes_only,
              "Learn from the best and the worst of each group (the paper's code), else from all.");
      v.choice("log_z", log_z, {"zero", "group"},
               "log Z of the target: left out, or log mean exp(score / beta) of the group.");
      v.field("num_iterations", num_iterations, "Passes over each generation.");
      v.field("mask_truncated_completions", mask_truncated_completions,
              "Leave completions that hit the length limit out of the loss.");
      v.require(beta > 0, "beta", "must be positive");
      v.require(num_iterations > 0, "num_iterations", "must be positive");
    }
  };
  explicit Gpo(const Config& config) : config_(config) {}

  int64_t num_iterations() const override { return config_.num_iterations; }
  bool mask_truncated_completions() const override { return config_.mask_truncated_completions; }
  at::Tensor participants(const ScoredRollouts& rollouts) const override {
    return config_.extremes_only ? best_and_worst(rollouts) != 0 : rollouts.rewards_PG.isfinite();
  }

  /// What the log-ratio is regressed on, times beta.
  at::Tensor advantages(const ScoredRollouts& rollouts, Communicator&) override {
    auto scores_PG = rollouts.rewards_PG.nan_to_num(0.0);
    if (config_.log_z == "group" && scores_PG.numel() > 0) {
      const auto low = at::full({}, -std::numeric_limits<double>::infinity(), at::kDouble);
      const auto known = rollouts.rewards_PG.isfinite();
      const auto count_P1 = known.sum(1, /*keepdim=*/true).to(at::kDouble).clamp_min(1.0);
      const auto log_z_P1 =
          at::where(known, scores_PG / config_.beta, low).logsumexp(1, /*keepdim=*/true) -
          count_P1.log();
      scores_PG = scores_PG - config_.beta * log_z_P1.nan_to_num(0.0, 0.0, 0.0);
    }
    return scores_PG.to(at::kFloat);
  }

  LossOutput loss(const PolicyBatch& batch, const UpdateTotals& totals, int64_t) override {
    return gpo_loss(completion_sums(batch, batch.logprobs_M),
                    completion_sums(batch, batch.old_logprobs_M), batch.advantages_C, {},
                    config_.beta, totals.num_completions);
  }

 private:
  Config config_;
};

MEED_REGISTER(algorithms, "gpo", Gpo,
              "General preference optimisation: regression on scores of a preference model.");

}  // namespace
}  // namespace meed
