#include "libreward/functions/tool_calls.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "libreward/functions/columns.h"

namespace meed {
namespace {

using Json = nlohmann::json;

constexpr int kMaxDepth = 64;

/// The parser's own recursion is bounded by this, whatever the text.
bool is_shallow(std::string_view text) {
  int depth = 0;
  bool quoted = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (quoted) {
      if (c == '\\') ++i;
      if (c == '"') quoted = false;
      continue;
    }
    quoted = c == '"';
    if ((c == '[' || c == '{') && ++depth > kMaxDepth) return false;
    if (c == ']' || c == '}') --depth;
  }
  return true;
}

std::optional<Json> parse(std::string_view text) {
  if (!is_shallow(text)) return std::nullopt;
  auto json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (json.is_discarded()) return std::nullopt;
  return json;
}

std::optional<ToolCall> read_call(const Json& json) {
  if (!json.is_object() || !json.contains("name") || !json["name"].is_string()) return std::nullopt;
  ToolCall call{json["name"].get<std::string>(), {}};
  const char* key = json.contains("parameters") ? "parameters" : "arguments";
  if (!json.contains(key) || json[key].is_null()) return call;
  if (!json[key].is_object()) return std::nullopt;
  for (const auto& [name, value] : json[key].items())
    call.parameters[name] = value.dump(-1, ' ', false, Json::error_handler_t::replace);
  return call;
}

bool read_calls(const Json& json, std::vector<ToolCall>& calls) {
  if (json.is_array()) {
    for (const auto& each : json)
      if (auto call = read_call(each))
        calls.push_back(std::move(*call));
      else
        return false;
    return true;
  }
  auto call = read_call(json);
  if (call) calls.push_back(std::move(*call));
  return call.has_value();
}

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

std::optional<std::vector<ToolCall>> parse_tool_calls(std::string_view text) {
  std::vector<ToolCall> calls;
  if (const auto whole = parse(text)) {
    if (!read_calls(*whole, calls)) return std::nullopt;
    return calls;
  }
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    const auto line = text.substr(begin, end - begin);
    begin = end + 1;
    if (is_blank(line)) continue;
    const auto json = parse(line);
    if (!json || !read_calls(*json, calls)) return std::nullopt;
  }
  if (calls.empty()) return std::nullopt;
  return calls;
}

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
