#include "libreward/functions/tool_correctness.h"

#include <algorithm>
#include <optional>

namespace meed {
namespace {

/// Multiset Jaccard: overlap / (|a| + |b| - overlap); 1 for two empty ones. `exact`: 1 or 0.
double jaccard(std::vector<std::string> a, std::vector<std::string> b, bool exact) {
  std::sort(a.begin(), a.end());
  std::sort(b.begin(), b.end());
  if (a == b) return 1.0;
  if (exact) return 0.0;
  std::vector<std::string> common;
  std::set_intersection(a.begin(), a.end(), b.begin(), b.end(), std::back_inserter(common));
  return static_cast<double>(common.size()) /
         static_cast<double>(a.size() + b.size() - common.size());
}

std::vector<std::string> names_of(const std::vector<ToolCall>& calls) {
  std::vector<std::string> names;
  for (const auto& call : calls) names.push_back(call.name);
  return names;
}

std::vector<std::string> keys_of(const ToolCall& call) {
  std::vector<std::string> keys;
  for (const auto& [key, value] : call.parameters) keys.push_back(key);
  return keys;
}

double call_score(const ToolCall& given, const ToolCall& wanted, ToolMatch match) {
  if (match == ToolMatch::kIntermediate)
    return given == wanted ? 1.0 + static_cast<double>(wanted.parameters.size()) : 0.0;
  double score = jaccard(keys_of(given), keys_of(wanted), match == ToolMatch::kStrict);
  for (const auto& [key, value] : wanted.parameters)
    if (const auto found = given.parameters.find(key);
        found != given.parameters.end() && found->second == value)
      score += 1.0;
  return score;
}

}  // namespace

double tool_correctness(const std::vector<ToolCall>& given, const std::vector<ToolCall>& wanted,
                        ToolMatch match, double limit) {
  if (given == wanted) return limit;
  if (match == ToolMatch::kCoarse) return -limit;
  double best = 1.0;
  double score = match == ToolMatch::kIntermediate
                     ? 0.0
                     : jaccard(names_of(given), names_of(wanted), match == ToolMatch::kStrict);
  if (match == ToolMatch::kIntermediate) best = 0.0;
  std::vector<bool> used(given.size(), false);
  for (const auto& call : wanted) {
    best += 1.0 + static_cast<double>(call.parameters.size());
    std::optional<size_t> chosen;
    double highest = 0.0;
    for (size_t i = 0; i < given.size(); ++i) {
      if (used[i] || given[i].name != call.name) continue;
      const double value = call_score(given[i], call, match);
      if (!chosen || value > highest) {
        chosen = i;
        highest = value;
      }
    }
    if (!chosen) continue;
    used[*chosen] = true;
    score += highest;
  }
  return best > 0.0 ? 2.0 * limit * score / best - limit : -limit;
}

}  // namespace meed
