#pragma once

#include <vector>

#include "libpolicy/text/tool_calls.h"

namespace meed {

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
