#include <ATen/ATen.h>

#include <limits>

#include "algorithms/group_selection.h"
#include "algorithms/rollout_update_loop.h"
#include "libpolicy/losses/sft.h"

namespace meed {
namespace {

/// Rejection-sampling fine-tuning (best of N, RAFT; Dong et al. 2023): supervised learning on the
/// best completions of each group.
class RejectionSampling final : public OnlineAlgorithm {
 public:
  struct Config {
    int64_t num_best = 1;
    std::optional<double> min_reward;
    int64_t num_iterations = 1;
    void fields(FieldVisitor& v) {
      v.field("num_best", num_best, "Completions of each group that are learnt.");
      v.field("min_reward", min_reward, "Only those with at least this reward; null: any.");
      v.field("num_iterations", num_iterations, "Passes over each generation.");
      v.require(num_best > 0, "num_best", "must be positive");
      v.require(num_iterations > 0, "num_iterations", "must be positive");
    }
  };
  explicit RejectionSampling(const Config& config) : config_(config) {}

  int64_t num_iterations() const override { return config_.num_iterations; }
  at::Tensor participants(const ScoredRollouts& rollouts) const override {
    return best(rollouts) > 0;
  }
  at::Tensor advantages(const ScoredRollouts& rollouts, Communicator&) override {
    return best(rollouts);
  }
  LossOutput loss(const PolicyBatch& batch, const UpdateTotals& totals, int64_t) override {
    return sft_loss(batch.logprobs_M * batch.mask_M, std::max(1.0, totals.num_tokens));
  }

 private:
  at::Tensor best(const ScoredRollouts& rollouts) const {
    return best_of_group(rollouts, config_.num_best,
                         config_.min_reward.value_or(-std::numeric_limits<double>::infinity()));
  }
  Config config_;
};

MEED_REGISTER(algorithms, "rejection_sampling", RejectionSampling,
              "Supervised learning on the best completions of each group.");

}  // namespace
}  // namespace meed
