#include "libreward/reward_function.h"

#include <algorithm>
#include <functional>

#include "libpolicy/core/error.h"
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
  v.section("weight_schedule", weight_schedule,
            "A factor on the weight that changes over the run.");
  v.section("gate", gate, "Other rewards that must be met for this one to count.");
  v.section("rows", rows, "Rows of the dataset that this reward applies to.");
}

void RewardTerm::Schedule::fields(FieldVisitor& v) {
  v.field("steps", steps, "Steps at which the factor is given, rising; empty: always 1.");
  v.field("factors", factors, "The factor at each of them; before and after, the nearest.");
  v.choice("interpolation", interpolation, {"linear", "hold"},
           "Between two steps: a straight line, or the factor of the earlier one.");
  v.require(steps.size() == factors.size(), "factors", "must be as many as steps");
  v.require(std::is_sorted(steps.begin(), steps.end(), std::less_equal<>()), "steps",
            "must rise, each above the one before");
}

double RewardTerm::Schedule::at(int64_t step) const {
  if (steps.empty()) return 1.0;
  const auto after = std::upper_bound(steps.begin(), steps.end(), step);
  if (after == steps.begin()) return factors.front();
  const auto i = static_cast<size_t>(after - steps.begin());
  if (after == steps.end() || interpolation == "hold") return factors[i - 1];
  const double share =
      static_cast<double>(step - steps[i - 1]) / static_cast<double>(steps[i] - steps[i - 1]);
  return factors[i - 1] + share * (factors[i] - factors[i - 1]);
}

void RewardTerm::Gate::fields(FieldVisitor& v) {
  v.field("rewards", rewards,
          "Names of rewards whose score, before transforms, must be at least `at_least`; one that "
          "does not apply is not met.");
  v.field("at_least", at_least, "What they must reach.");
  v.field("otherwise", otherwise, "What this reward is worth where they do not, after transforms.");
}

void RewardTerm::Rows::fields(FieldVisitor& v) {
  v.field("column", column, "Column of the dataset that decides; empty: all rows.");
  v.field("values", values, "What it must hold, one of these.");
  v.require(column.empty() == values.empty(), "values", "and column belong together");
}

bool RewardTerm::Rows::apply_to(const Example& example) const {
  if (column.empty()) return true;
  const auto found = example.extra.find(column);
  if (found == example.extra.end())
    throw DataError("row " + std::to_string(example.row + 1) +
                    ": a reward's `rows` needs the column \"" + column +
                    "\"; map it by the dataset's `columns`");
  return std::find(values.begin(), values.end(), found->second) != values.end();
}

namespace {

void refuse_terms(FieldVisitor& v, const char* name, const ConfigNode& node) {
  if (!node.is_map()) return;
  for (const auto& key : reward_functions().common_keys())
    v.require(key == "name" || !node.has(key), name,
              "takes no `" + key + "`: that is for the recipe's own rewards");
}

}  // namespace

void inner_reward(FieldVisitor& v, const char* name, std::optional<ConfigNode>& value,
                  const char* help) {
  v.component(name, value, reward_functions(), help);
  if (value) refuse_terms(v, name, *value);
}

void inner_rewards(FieldVisitor& v, const char* name, std::vector<ConfigNode>& value,
                   const char* help) {
  v.components(name, value, reward_functions(), help);
  for (const auto& node : value) refuse_terms(v, name, node);
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
