#include <ATen/ATen.h>

#include <cmath>
#include <limits>

#include "libpolicy/core/run_context.h"
#include "libpolicy/distributed/communicator.h"
#include "libreward/reward_function.h"

namespace meed {
namespace {

/// Whether a reward's numbers mean the same on different prompts: the area under the curve with
/// which it tells good completions (gold at least `threshold`) from the others, pooled over all
/// prompts of the batch and all ranks (Pairwise-RL's calibration). The same number for every
/// completion; it does not apply where all are good or none. For a weight of 0, to watch a reward.
class PooledAuc final : public RewardFunction {
 public:
  struct Config {
    std::optional<ConfigNode> reward, gold;
    double threshold = 0.5;
    void fields(FieldVisitor& v) {
      v.component("reward", reward, reward_functions(), "The reward that is judged.");
      v.component("gold", gold, reward_functions(), "What it is judged by.");
      v.field("threshold", threshold, "Gold from which a completion is good.");
      v.required("reward");
      v.required("gold");
    }
  };
  PooledAuc(const Config& config, RunContext& context)
      : config_(config),
        comm_(context.comm),
        reward_(reward_functions().create(*config.reward, context)),
        gold_(reward_functions().create(*config.gold, context)) {}

  std::vector<std::vector<Score>> score(std::span<const RolloutGroup> groups) override {
    const auto given = reward_->score(groups), gold = gold_->score(groups);
    std::vector<double> good, bad;
    for (size_t p = 0; p < given.size(); ++p)
      for (size_t g = 0; g < given[p].size(); ++g) {
        if (std::isnan(given[p][g].value) || std::isnan(gold[p][g].value)) continue;
        (gold[p][g].value >= config_.threshold ? good : bad).push_back(given[p][g].value);
      }
    const double area = auc(of_all_ranks(good), of_all_ranks(bad));
    std::vector<std::vector<Score>> scores;
    for (const auto& group : groups)
      scores.emplace_back(group.completions.size(), Score{.value = area});
    return scores;
  }
  void save(StateDict& state) const override {
    save_under(state, "reward", *reward_);
    save_under(state, "gold", *gold_);
  }
  void load(const StateDict& state) override {
    load_under(state, "reward", *reward_);
    load_under(state, "gold", *gold_);
  }

 private:
  at::Tensor of_all_ranks(const std::vector<double>& values) const {
    return at::cat(all_gather_ragged(comm_, at::tensor(values, at::kDouble)));
  }
  /// P(good above bad) + P(equal) / 2.
  static double auc(const at::Tensor& good, const at::Tensor& bad) {
    if (good.numel() == 0 || bad.numel() == 0) return std::numeric_limits<double>::quiet_NaN();
    const auto sorted = std::get<0>(bad.sort());
    const auto below = at::searchsorted(sorted, good),
               to_equal = at::searchsorted(sorted, good,
                                           /*out_int32=*/false,
                                           /*right=*/true);
    return (below + to_equal).to(at::kDouble).mean().item<double>() /
           (2.0 * static_cast<double>(bad.numel()));
  }
  Config config_;
  Communicator& comm_;
  std::unique_ptr<RewardFunction> reward_, gold_;
};

MEED_REGISTER(reward_functions, "pooled_auc", PooledAuc,
              "How well a reward tells good completions from bad over all prompts, to watch it.");

}  // namespace
}  // namespace meed
