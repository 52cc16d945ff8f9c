#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "libpolicy/core/registry.h"
#include "libpolicy/generation/rollout.h"

namespace meed {

/// What an environment answers to a call.
struct EnvironmentReply {
  std::string text;     ///< Goes on behind the policy's words; its tokens are masked from the loss.
  bool failed = false;  ///< The call could not be carried out; `text` says why.
};

/// What a policy talks to between its turns: tools, a search engine. A turn ends with one of the
/// environment's stop strings; the policy goes on behind the reply. A reply is a function of the
/// row and of the turns so far alone, so that rollouts do not depend on order, batch or process.
class Environment {
 public:
  virtual ~Environment() = default;
  /// Strings that close a call. They must not change.
  virtual std::vector<std::string> stop_strings() const = 0;
  /// The answer to the last turn, which ends with a stop string; nullopt: the episode is over.
  /// Never throws for what a policy wrote; throws DataError where the row lacks a column.
  virtual std::optional<EnvironmentReply> reply(const Example& example,
                                                std::span<const Completion::Turn> turns) = 0;
};

/// `rollout.environment.type` of a recipe.
Registry<Environment>& environments();

}  // namespace meed
