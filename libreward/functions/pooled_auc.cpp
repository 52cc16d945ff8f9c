#include <ATen/ATen.h>

#include <cmath>

#include "libpolicy/core/ranking.h"
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
      inner_reward(v, "reward", reward, "The reward that is judged.");
      inner_reward(v, "gold", gold, "What it is judged by.");
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
    std::vector<double> values, good;
    for (size_t p = 0; p < given.size(); ++p)
      for (size_t g = 0; g < given[p].size(); ++g) {
        if (std::isnan(given[p][g].value) || std::isnan(gold[p][g].value)) continue;
        values.push_back(given[p][g].value);
        good.push_back(gold[p][g].value >= config_.threshold);
      }
    const auto of_all = of_all_ranks(good);
    const double area =
        area_under_curve(of_all_ranks(values), std::vector<bool>(of_all.begin(), of_all.end()));
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
  std::vector<double> of_all_ranks(const std::vector<double>& own) const {
    const auto all = at::cat(all_gather_ragged(comm_, at::tensor(own, at::kDouble))).contiguous();
    return {all.const_data_ptr<double>(), all.const_data_ptr<double>() + all.numel()};
  }
  Config config_;
  Communicator& comm_;
  std::unique_ptr<RewardFunction> reward_, gold_;
};

MEED_REGISTER(reward_functions, "pooled_auc", PooledAuc,
              "How well a reward tells good completions from bad over all prompts, to watch it.");

}  // namespace
}  // namespace meed
