#pragma once

#include <memory>

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

}  // namespace meed
