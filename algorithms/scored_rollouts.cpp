#include "algorithms/scored_rollouts.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <limits>
#include <set>

#include "libpolicy/text/tokenizer.h"
#include "libreward/reward_pipeline.h"

namespace meed {
namespace {

using Nested = std::vector<std::vector<std::vector<double>>>;

/// Adds step values to the tokens at which the steps end; true if some step had no place.
bool add_steps(const std::vector<double>& steps, const std::vector<int64_t>& ends,
               std::vector<double>& tokens) {
  if (ends.empty()) return !steps.empty();
  for (size_t s = 0; s < steps.size(); ++s)
    if (std::isfinite(steps[s]))
      tokens[static_cast<size_t>(ends[std::min(s, ends.size() - 1)])] += steps[s];
  return steps.size() > ends.size();
}

/// Step rewards as token rewards, added to those that are there; completions get the ends of the
/// steps that have one.
int64_t steps_to_tokens(std::vector<RolloutGroup>& groups, const Nested& steps_PGS,
                        const Tokenizer& tokenizer, const std::string& separator,
                        Nested& tokens_PGT) {
  if (steps_PGS.empty()) return 0;
  int64_t mismatches = 0;
  tokens_PGT.resize(groups.size());
  for (size_t p = 0; p < groups.size(); ++p) {
    tokens_PGT[p].resize(groups[p].completions.size());
    for (size_t g = 0; g < groups[p].completions.size(); ++g) {
      auto& completion = groups[p].completions[g];
      const auto& steps = steps_PGS[p][g];
      auto ends = step_ends(completion, tokenizer, separator);
      if (!steps.empty()) {
        auto& tokens = tokens_PGT[p][g];
        if (tokens.empty()) tokens.resize(completion.token_ids.size(), 0.0);
        mismatches += add_steps(steps, ends, tokens);
      }
      ends.resize(std::min(ends.size(), steps.size()));
      completion.step_ends = std::move(ends);
    }
  }
  return mismatches;
}

/// Rows of both maps one below the other; NaN where one of them lacks a key.
std::map<std::string, at::Tensor> joined_maps(const std::map<std::string, at::Tensor>& first,
                                              const std::map<std::string, at::Tensor>& second,
                                              const at::Tensor& like_first,
                                              const at::Tensor& like_second) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const auto rows = [&](const std::map<std::string, at::Tensor>& map, const std::string& key,
                        const at::Tensor& like) {
    const auto found = map.find(key);
    return found == map.end() ? at::full_like(like, nan) : found->second;
  };
  std::set<std::string> keys;
  for (const auto* map : {&first, &second})
    for (const auto& [key, values] : *map) keys.insert(key);
  std::map<std::string, at::Tensor> result;
  for (const auto& key : keys)
    result[key] = at::cat({rows(first, key, like_first), rows(second, key, like_second)});
  return result;
}

}  // namespace

std::vector<int64_t> step_ends(const Completion& completion, const Tokenizer& tokenizer,
                               const std::string& separator) {
  if (!completion.step_ends.empty()) return completion.step_ends;
  const auto length = static_cast<int64_t>(completion.token_ids.size());
  std::vector<int64_t> ends;
  if (length == 0) return ends;
  if (!separator.empty()) {
    std::string text;
    size_t from = 0;
    for (int64_t t = 0; t < length; ++t) {
      const int64_t id = completion.token_ids[static_cast<size_t>(t)];
      if (!tokenizer.is_special(id)) text += tokenizer.stream_bytes(id, text.empty());
      const auto found = text.find(separator, from);
      if (found == std::string::npos) continue;
      // A run of separators ("\n\n\n") ends one step.
      for (from = found; text.compare(from, separator.size(), separator) == 0;)
        from += separator.size();
      if (ends.empty() || ends.back() < t) ends.push_back(t);
    }
  }
  if (ends.empty() || ends.back() != length - 1) ends.push_back(length - 1);
  return ends;
}

ScoredRollouts make_scored(std::vector<RolloutGroup> groups, PipelineScores scores,
                           const Tokenizer& tokenizer, const std::string& step_separator, int rank,
                           int size, int64_t num_groups, int64_t* num_step_mismatches) {
  ScoredRollouts scored{.groups = std::move(groups), .num_groups = num_groups};
  for (size_t p = 0; p < scored.groups.size(); ++p)
    scored.places.push_back(static_cast<int64_t>(p) * size + rank);
  scored.rewards_PG = std::move(scores.rewards_PG);
  scored.terminal_PG = std::move(scores.terminal_PG);
  scored.components = std::move(scores.components);
  scored.transformed = std::move(scores.transformed);
  scored.weights = std::move(scores.weights);
  scored.parts = std::move(scores.parts);
  scored.tokens_PGT = std::move(scores.tokens_PGT);
  *num_step_mismatches = steps_to_tokens(scored.groups, scores.steps_PGS, tokenizer, step_separator,
                                         scored.tokens_PGT);
  for (const auto& [name, places] : scores.unreadable)
    scored.unreadable[name] = static_cast<int64_t>(places.size());
  return scored;
}

const at::Tensor& terminal_rewards(const ScoredRollouts& scored) {
  return scored.terminal_PG.defined() ? scored.terminal_PG : scored.rewards_PG;
}

ScoredRollouts select_groups(const ScoredRollouts& scored, std::span<const int64_t> kept,
                             std::vector<int64_t> places, int64_t num_groups) {
  const auto rows = at::tensor(std::vector<int64_t>(kept.begin(), kept.end()), at::kLong);
  const auto selected = [&](const std::map<std::string, at::Tensor>& map) {
    std::map<std::string, at::Tensor> result;
    for (const auto& [key, values] : map) result[key] = values.index_select(0, rows);
    return result;
  };
  ScoredRollouts result{.places = std::move(places),
                        .num_groups = num_groups,
                        .rewards_PG = scored.rewards_PG.index_select(0, rows),
                        .components = selected(scored.components),
                        .transformed = selected(scored.transformed),
                        .weights = scored.weights,
                        .parts = selected(scored.parts),
                        .unreadable = scored.unreadable};
  for (const int64_t p : kept) {
    result.groups.push_back(scored.groups[static_cast<size_t>(p)]);
    if (!scored.tokens_PGT.empty())
      result.tokens_PGT.push_back(scored.tokens_PGT[static_cast<size_t>(p)]);
  }
  if (scored.terminal_PG.defined()) result.terminal_PG = scored.terminal_PG.index_select(0, rows);
  if (scored.greedy_P.defined()) result.greedy_P = scored.greedy_P.index_select(0, rows);
  return result;
}

ScoredRollouts joined_groups(ScoredRollouts scored, ScoredRollouts more) {
  // A rank without groups has tensors of no width.
  if (more.groups.empty() || scored.groups.empty()) {
    auto& whole = more.groups.empty() ? scored : more;
    const auto& empty = more.groups.empty() ? more : scored;
    for (const auto& [name, count] : empty.unreadable) whole.unreadable[name] += count;
    whole.num_groups += empty.num_groups;
    return std::move(whole);
  }
  const auto join = [&](std::map<std::string, at::Tensor> ScoredRollouts::*member) {
    scored.*member = joined_maps(scored.*member, more.*member, scored.rewards_PG, more.rewards_PG);
  };
  join(&ScoredRollouts::components);
  join(&ScoredRollouts::transformed);
  join(&ScoredRollouts::parts);
  // Dense rewards may be there in one part only: the other's are no values.
  if (!scored.tokens_PGT.empty() || !more.tokens_PGT.empty()) {
    for (auto* part : {&scored, &more})
      for (size_t p = part->tokens_PGT.size(); p < part->groups.size(); ++p)
        part->tokens_PGT.emplace_back(part->groups[p].completions.size());
    std::move(more.tokens_PGT.begin(), more.tokens_PGT.end(),
              std::back_inserter(scored.tokens_PGT));
  }
  if (scored.terminal_PG.defined() || more.terminal_PG.defined())
    scored.terminal_PG = at::cat({terminal_rewards(scored), terminal_rewards(more)});
  scored.rewards_PG = at::cat({scored.rewards_PG, more.rewards_PG});
  if (scored.greedy_P.defined()) scored.greedy_P = at::cat({scored.greedy_P, more.greedy_P});
  std::move(more.groups.begin(), more.groups.end(), std::back_inserter(scored.groups));
  std::move(more.places.begin(), more.places.end(), std::back_inserter(scored.places));
  for (const auto& [name, count] : more.unreadable) scored.unreadable[name] += count;
  for (const auto& [name, weight] : more.weights) scored.weights[name] = weight;
  scored.num_groups += more.num_groups;
  return scored;
}

}  // namespace meed
