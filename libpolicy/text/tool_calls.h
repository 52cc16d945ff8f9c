#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace meed {

/// One call of a tool; arguments as canonical JSON text, so that equal values compare equal.
struct ToolCall {
  std::string name;
  std::map<std::string, std::string> parameters;
  bool operator==(const ToolCall&) const = default;
};

/// Calls of a model: one JSON object a line, or a JSON list; "parameters" or "arguments". nullopt
/// where a part cannot be read: broken or deeply nested JSON, no name. Never throws.
std::optional<std::vector<ToolCall>> parse_tool_calls(std::string_view text);

}  // namespace meed
