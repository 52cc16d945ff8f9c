#pragma once

#include <string>

#include "libpolicy/generation/rollout.h"

namespace meed {

/// Why a completion's length in tokens is unknown, or "": nobody has encoded its text (`meed
/// reward` does with --model, or takes ids from its input).
inline std::string unknown_length(const Completion& completion) {
  return completion.token_ids.empty() && !completion.text.empty() ? "no_tokens" : "";
}

}  // namespace meed
