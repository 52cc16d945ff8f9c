#include "libreward/reward_pipeline.h"

#include <ATen/ATen.h>

#include "libpolicy/core/error.h"

namespace meed {

RewardPipeline::RewardPipeline(const std::vector<ConfigNode>& nodes, RunContext& context) {
  for (const auto& node : nodes) {
    const auto term = reward_functions().read_common<RewardTerm>(node);
    Entry entry{term.name.empty() ? reward_functions().name_of(node) : term.name,
                term.weight,
                reward_functions().create(node, context),
                {}};
    for (const auto& each : entries_)
      if (each.name == entry.name)
        node.fail("two rewards are named \"" + entry.name + "\"; give one of them a `name`");
    for (const auto& transform : term.transforms)
      entry.transforms.push_back(reward_transforms().create(transform, context));
    entries_.push_back(std::move(entry));
  }
}

PipelineScores RewardPipeline::score(std::span<const RolloutGroup> groups) {
  const auto P = static_cast<int64_t>(groups.size());
  const auto G = groups.empty() ? 0 : static_cast<int64_t>(groups[0].completions.size());
  PipelineScores result;
  at::Tensor sum = at::zeros({P, G}, at::kDouble), applied = at::zeros({P, G}, at::kBool);
  for (auto& entry : entries_) {
    const auto scores = entry.function->score(groups);
    MEED_CHECK(static_cast<int64_t>(scores.size()) == P,
               "reward \"" + entry.name + "\" returned another number of groups");
    at::Tensor values = at::empty({P, G}, at::kDouble);
    auto* data = values.data_ptr<double>();
    for (int64_t p = 0; p < P; ++p) {
      const auto& row = scores[static_cast<size_t>(p)];
      MEED_CHECK(static_cast<int64_t>(row.size()) == G,
                 "reward \"" + entry.name + "\" returned another number of completions");
      for (int64_t g = 0; g < G; ++g) data[p * G + g] = row[static_cast<size_t>(g)].value;
    }
    result.components[entry.name] = values;
    RewardBatch batch{.outcome_PG = values.clone()};
    for (auto& transform : entry.transforms) transform->apply(batch);
    result.transformed[entry.name] = batch.outcome_PG;
    const auto known = batch.outcome_PG.isfinite();
    sum = sum + entry.weight * at::where(known, batch.outcome_PG, at::zeros({}, at::kDouble));
    applied = applied.logical_or(known);
  }
  result.rewards_PG =
      at::where(applied, sum, at::full({}, std::numeric_limits<double>::quiet_NaN(), at::kDouble));
  return result;
}

}  // namespace meed
