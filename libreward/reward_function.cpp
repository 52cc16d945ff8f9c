#include "libreward/reward_function.h"

#include "libreward/reward_transform.h"

namespace meed {

std::vector<std::vector<Score>> PointwiseReward::score(std::span<const RolloutGroup> groups) {
  std::vector<std::vector<Score>> scores_PG;
  for (const auto& group : groups) {
    auto& scores_G = scores_PG.emplace_back();
    for (const auto& completion : group.completions)
      scores_G.push_back(score_one(group.example, completion));
  }
  return scores_PG;
}

void RewardTerm::fields(FieldVisitor& v) {
  v.field("weight", weight, "Weight in the sum of rewards.");
  v.field("name", name, "Name in the metrics; the type if empty.");
  v.components("transforms", transforms, reward_transforms(),
               "Applied to this reward, in order, before it is weighted.");
}

Registry<RewardFunction>& reward_functions() {
  static Registry<RewardFunction>& registry = *[] {
    static Registry<RewardFunction> created("reward function");
    created.set_common<RewardTerm>();
    return &created;
  }();
  return registry;
}

}  // namespace meed
