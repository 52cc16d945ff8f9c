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

enum class ToolMatch {
  kFine,          ///< names, parameter names and values each count
  kIntermediate,  ///< only whole equal calls count
  kCoarse,        ///< everything equal, or nothing
  kStrict,        ///< as fine, but names and parameter names must be exactly equal sets
};

/// ToolRL's correctness in [-limit, limit]: 2 * limit * S / S_max - limit (Qian et al. 2025).
double tool_correctness(const std::vector<ToolCall>& given, const std::vector<ToolCall>& wanted,
                        ToolMatch match = ToolMatch::kFine, double limit = 3.0);

}  // namespace meed
