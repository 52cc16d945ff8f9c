#include "libreward/reward_pipeline.h"

#include <ATen/ATen.h>

#include <cmath>
#include <limits>
#include <set>

#include "libpolicy/core/error.h"
#include "libpolicy/core/strings.h"

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

bool holds_value(const std::vector<std::vector<Score>>& scores) {
  for (const auto& group : scores)
    for (const auto& score : group)
      if (score.value_in_steps) return true;
  return false;
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

/// bool [P, G]: every reward that the gate names reaches its value.
at::Tensor open_gate(const RewardTerm::Gate& gate,
                     const std::map<std::string, at::Tensor>& components,
                     const at::Tensor& like_PG) {
  auto open = at::ones_like(like_PG, at::kBool);
  for (const auto& name : gate.rewards)
    open = open.logical_and(components.at(name) >= gate.at_least);  // NaN is not met
  return open;
}

/// bool [P, G]: the step rewards hold the outcome.
at::Tensor held_PG(const RewardBatch& batch) {
  auto held = at::zeros_like(batch.outcome_PG, at::kBool);
  if (!batch.steps_hold_outcome) return held;
  for (size_t p = 0; p < batch.steps_PGS.size(); ++p)
    for (size_t g = 0; g < batch.steps_PGS[p].size(); ++g)
      if (!batch.steps_PGS[p][g].empty())
        held[static_cast<int64_t>(p)][static_cast<int64_t>(g)] = true;
  return held;
}

/// Where the gate is shut: the outcome is `otherwise`, in the last step where the steps hold it;
/// steps and tokens are worth nothing.
void shut(RewardBatch& batch, const at::Tensor& open_PG, double otherwise) {
  batch.outcome_PG = at::where(open_PG.logical_or(batch.outcome_PG.isnan()), batch.outcome_PG,
                               at::full({}, otherwise, at::kDouble));
  for (auto* nested : {&batch.steps_PGS, &batch.tokens_PGT})
    for (size_t p = 0; p < nested->size(); ++p)
      for (size_t g = 0; g < (*nested)[p].size(); ++g)
        if (!open_PG[static_cast<int64_t>(p)][static_cast<int64_t>(g)].item<bool>())
          std::fill((*nested)[p][g].begin(), (*nested)[p][g].end(), 0.0);
  if (!batch.steps_hold_outcome) return;
  for (size_t p = 0; p < batch.steps_PGS.size(); ++p)
    for (size_t g = 0; g < batch.steps_PGS[p].size(); ++g)
      if (!open_PG[static_cast<int64_t>(p)][static_cast<int64_t>(g)].item<bool>() &&
          !batch.steps_PGS[p][g].empty())
        batch.steps_PGS[p][g].back() = otherwise;
}

}  // namespace

std::string reward_name(const ConfigNode& node) {
  if (node.is_map() && node.has("name")) {
    const auto name = node.at("name").as_string();
    if (!name.empty()) return name;
  }
  return node.is_map() && node.has("type") ? node.at("type").as_string() : "";
}

std::vector<std::string> pipeline_problems(const std::vector<ConfigNode>& nodes) {
  std::vector<std::string> problems;
  std::set<std::string> names;
  for (const auto& node : nodes) {
    if (const auto name = reward_name(node); !names.insert(name).second)
      problems.push_back(node.where() + ": two rewards are named \"" + name +
                         "\"; give one of them a `name`");
    if (auto problem = check_shapes(node); !problem.empty()) problems.push_back(std::move(problem));
  }
  for (const auto& node : nodes) {
    if (!node.is_map() || !node.has("gate") || !node.at("gate").is_map() ||
        !node.at("gate").has("rewards"))
      continue;
    const auto list = node.at("gate").at("rewards");
    for (const auto& each : list.is_list() ? list.items() : std::vector<ConfigNode>{list}) {
      const auto name = each.as_string();
      if (name == reward_name(node)) {
        problems.push_back(each.where() + ": a reward cannot be its own gate");
      } else if (names.count(name) == 0) {
        const std::vector<std::string> known(names.begin(), names.end());
        const auto nearest = nearest_name(name, known);
        problems.push_back(each.where() + ": no reward of this recipe is named \"" + name + "\"" +
                           (nearest.empty() ? "" : "; did you mean \"" + nearest + "\"?"));
      }
    }
  }
  return problems;
}

RewardPipeline::RewardPipeline(const std::vector<ConfigNode>& nodes, RunContext& context) {
  throw_problems(pipeline_problems(nodes));
  for (const auto& node : nodes) {
    auto term = reward_functions().read_common<RewardTerm>(node);
    Entry entry{reward_name(node), std::move(term), reward_functions().create(node, context), {}};
    for (const auto& transform : entry.term.transforms)
      entry.transforms.push_back(reward_transforms().create(transform, context));
    entries_.push_back(std::move(entry));
  }
}

/// Every completion's score; NaN in the rows that the reward does not apply to, which its function
/// does not see.
std::vector<std::vector<Score>> RewardPipeline::scores_of(Entry& entry,
                                                          std::span<const RolloutGroup> groups) {
  if (entry.term.rows.column.empty()) return entry.function->score(groups);
  std::vector<RolloutGroup> chosen;
  std::vector<std::vector<Score>> scores(groups.size());
  std::vector<size_t> places;
  for (size_t p = 0; p < groups.size(); ++p) {
    if (entry.term.rows.apply_to(groups[p].example)) {
      chosen.push_back(groups[p]);
      places.push_back(p);
    } else {
      scores[p].assign(groups[p].completions.size(),
                       {.value = std::numeric_limits<double>::quiet_NaN()});
    }
  }
  // Called even for no group: a function may have to meet the other ranks.
  auto given = entry.function->score(chosen);
  MEED_CHECK(given.size() == chosen.size(),
             "reward \"" + entry.name + "\" returned another number of groups");
  for (size_t i = 0; i < places.size(); ++i) scores[places[i]] = std::move(given[i]);
  return scores;
}

PipelineScores RewardPipeline::score(std::span<const RolloutGroup> groups,
                                     const ScoreOptions& options) {
  const auto P = static_cast<int64_t>(groups.size());
  const auto G = groups.empty() ? 0 : static_cast<int64_t>(groups[0].completions.size());
  PipelineScores result;
  std::vector<RewardBatch> batches;
  std::vector<const Example*> examples;
  for (const auto& group : groups) examples.push_back(&group.example);
  for (auto& entry : entries_) {
    const auto scores = scores_of(entry, groups);
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
    batches.push_back({.outcome_PG = values.clone(),
                       .steps_PGS = nested(scores, &Score::step_values),
                       .tokens_PGT = nested(scores, &Score::token_values),
                       .examples_P = examples,
                       .training = options.training,
                       .steps_hold_outcome = holds_value(scores)});
    for (auto& transform : entry.transforms) transform->apply(batches.back());
  }
  const auto zero = at::zeros({}, at::kDouble);
  at::Tensor sum = at::zeros({P, G}, at::kDouble), applied = at::zeros({P, G}, at::kBool);
  auto terminal = at::zeros({P, G}, at::kDouble);
  for (size_t i = 0; i < entries_.size(); ++i) {
    const auto& [name, term, function, transforms] = entries_[i];
    auto& batch = batches[i];
    if (!term.gate.rewards.empty())
      shut(batch, open_gate(term.gate, result.components, batch.outcome_PG), term.gate.otherwise);
    const double weight = term.weight * term.weight_schedule.at(options.step);
    add_weighted(result.steps_PGS, batch.steps_PGS, weight);
    add_weighted(result.tokens_PGT, batch.tokens_PGT, weight);
    result.transformed[name] = batch.outcome_PG;
    result.weights[name] = weight;
    const auto known = batch.outcome_PG.isfinite();
    const auto outcome_PG = at::where(known, batch.outcome_PG, zero);
    sum = sum + weight * outcome_PG;
    terminal = terminal + weight * at::where(held_PG(batch), zero, outcome_PG);
    applied = applied.logical_or(known);
  }
  const auto nan = at::full({}, std::numeric_limits<double>::quiet_NaN(), at::kDouble);
  result.rewards_PG = at::where(applied, sum, nan);
  result.terminal_PG = at::where(applied, terminal, nan);
  return result;
}

RewardFunction* RewardPipeline::find(const std::string& name) {
  for (auto& entry : entries_)
    if (entry.name == name) return entry.function.get();
  return nullptr;
}

StateDict RewardPipeline::state_dict() const {
  StateDict state;
  for (const auto& entry : entries_) {
    save_under(state, entry.name, *entry.function);
    for (size_t i = 0; i < entry.transforms.size(); ++i)
      save_under(state, entry.name + ".transforms." + std::to_string(i), *entry.transforms[i]);
  }
  return state;
}

void RewardPipeline::load_state_dict(const StateDict& state) {
  for (const auto& entry : entries_) {
    load_under(state, entry.name, *entry.function);
    for (size_t i = 0; i < entry.transforms.size(); ++i)
      load_under(state, entry.name + ".transforms." + std::to_string(i), *entry.transforms[i]);
  }
}

}  // namespace meed
