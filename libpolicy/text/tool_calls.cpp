#include "libpolicy/text/tool_calls.h"

#include <algorithm>
#include <nlohmann/json.hpp>

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
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    const auto json = parse(line);
    if (!json || !read_calls(*json, calls)) return std::nullopt;
  }
  if (calls.empty()) return std::nullopt;
  return calls;
}

}  // namespace meed
