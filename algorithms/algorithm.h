#pragma once

#include <memory>
#include <optional>
#include <string>

#include "libpolicy/core/registry.h"

namespace meed {

class TrainingRun;

/// What a recipe's `algorithm.type` names. An algorithm is what it adds to one of the two loops:
/// see offline_trainer.h (a dataset) and rollout_update_loop.h (completions of the policy itself).
class Algorithm {
 public:
  virtual ~Algorithm() = default;
  /// Runs to the last step. Throws Error; a stop by signal is no error.
  virtual void train(TrainingRun& run) = 0;
};

Registry<Algorithm>& algorithms();

/// Says that the algorithm `name` needs no `model` in its recipe: it works on vectors or tables.
/// Returns true, so that it can stand beside MEED_REGISTER.
bool works_without_model(const std::string& name);
/// Whether the recipe's algorithm needs one; an unknown algorithm does.
bool needs_model(const std::optional<ConfigNode>& algorithm);

}  // namespace meed
