#include <cmath>
#include <limits>

#include "libreward/reward_function.h"

namespace meed {
namespace {

/// How well one reward orders a group's completions by another: of those that the gold reward sets
/// apart from this one, the share that `reward` puts on the same side (half for a tie). Its mean is
/// a pairwise accuracy. Does not apply where gold sets none apart. For a weight of 0, to watch a
/// reward.
class Agreement final : public RewardFunction {
 public:
  struct Config {
    std::optional<ConfigNode> reward, gold;
    void fields(FieldVisitor& v) {
      inner_reward(v, "reward", reward, "The reward that is judged.");
      inner_reward(v, "gold", gold, "What it is judged by.");
      v.required("reward");
      v.required("gold");
    }
  };
  Agreement(const Config& config, RunContext& context)
      : reward_(reward_functions().create(*config.reward, context)),
        gold_(reward_functions().create(*config.gold, context)) {}

  std::vector<std::vector<Score>> score(std::span<const RolloutGroup> groups) override {
    const auto given = reward_->score(groups), gold = gold_->score(groups);
    std::vector<std::vector<Score>> scores;
    for (size_t p = 0; p < groups.size(); ++p) {
      auto& row = scores.emplace_back();
      for (size_t g = 0; g < given[p].size(); ++g)
        row.push_back({.value = share(given[p], gold[p], g)});
    }
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
  static double share(const std::vector<Score>& given, const std::vector<Score>& gold, size_t g) {
    double right = 0.0, pairs = 0.0;
    for (size_t other = 0; other < gold.size(); ++other) {
      const double wanted = gold[g].value - gold[other].value;
      const double difference = given[g].value - given[other].value;
      if (wanted == 0.0 || std::isnan(wanted) || std::isnan(difference)) continue;
      pairs += 1.0;
      right += difference == 0.0 ? 0.5 : (difference > 0.0) == (wanted > 0.0) ? 1.0 : 0.0;
    }
    return pairs > 0.0 ? right / pairs : std::numeric_limits<double>::quiet_NaN();
  }
  std::unique_ptr<RewardFunction> reward_, gold_;
};

MEED_REGISTER(reward_functions, "agreement", Agreement,
              "How well one reward orders completions by another, to watch it.");

}  // namespace
}  // namespace meed
