#include "libreward/reward_pipeline.h"

#include <ATen/ATen.h>

#include <cmath>
#include <limits>

#include "libpolicy/core/error.h"

namespace meed {
namespace {

using Nested = std::vector<std::vector<std::vector<double>>>;

/// Step or token values of all completions; empty if none has any.
Nested nested(const std::vector<std::vector<Score>>& scores, std::vector<double> Score::*member) {
  Nested values;
  bool any = false;
  for (const auto& group : scores) {
    auto& row = values.emplace_back();
    for (const auto& score : group) {
      row.push_back(score.*member);
      any = any || !row.back().empty();
    }
  }
  return any ? values : Nested{};
}

/// sum += weight * values. Functions may disagree about the number of steps: places beyond the
/// shorter one count as 0.
void add_weighted(Nested& sum, const Nested& values, double weight) {
  if (values.empty()) return;
  sum.resize(values.size());
  for (size_t p = 0; p < values.size(); ++p) {
    sum[p].resize(values[p].size());
    for (size_t g = 0; g < values[p].size(); ++g) {
      auto& row = sum[p][g];
      row.resize(std::max(row.size(), values[p][g].size()), 0.0);
      for (size_t s = 0; s < values[p][g].size(); ++s)
        if (std::isfinite(values[p][g][s])) row[s] += weight * values[p][g][s];
    }
  }
}

void collect_parts(const std::string& name, const std::vector<std::vector<Score>>& scores,
                   int64_t P, int64_t G, PipelineScores& result) {
  const auto nan = std::numeric_limits<double>::quiet_NaN();
  for (int64_t p = 0; p < P; ++p) {
    for (int64_t g = 0; g < G; ++g) {
      const auto& score = scores[static_cast<size_t>(p)][static_cast<size_t>(g)];
      if (!score.unreadable.empty())
        result.unreadable[name + "/" + score.unreadable].emplace_back(p, g);
      for (const auto& [part, value] : score.parts) {
        auto& values = result.parts[name + "/" + part];
        if (!values.defined()) values = at::full({P, G}, nan, at::kDouble);
        values.data_ptr<double>()[p * G + g] = value;
      }
    }
  }
}

}  // namespace

RewardPipeline::RewardPipeline(const std::vector<ConfigNode>& nodes, RunContext& context) {
  for (const auto& node : nodes) {
    if (const auto problem = check_shapes(node); !problem.empty()) throw ConfigError(problem);
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
    collect_parts(entry.name, scores, P, G, result);
    RewardBatch batch{.outcome_PG = values.clone()};
    batch.steps_PGS = nested(scores, &Score::step_values);
    batch.tokens_PGT = nested(scores, &Score::token_values);
    for (auto& transform : entry.transforms) transform->apply(batch);
    add_weighted(result.steps_PGS, batch.steps_PGS, entry.weight);
    add_weighted(result.tokens_PGT, batch.tokens_PGT, entry.weight);
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
