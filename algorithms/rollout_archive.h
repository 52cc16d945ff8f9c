#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <memory>

#include "algorithms/scored_rollouts.h"
#include "libpolicy/generation/rollout_store.h"

namespace meed {

class Communicator;

/// A run's rollout store over all ranks: rank 0 writes what all ranks sampled, every rank reads its
/// share, so that files do not depend on the number of processes.
class RolloutArchive {
 public:
  RolloutArchive(std::filesystem::path folder, Communicator& comm);
  /// All ranks call it.
  void write(const ScoredRollouts& rollouts, const at::Tensor& advantages_PG, int64_t step);
  /// Generation number `index`, from the first again after the last: this rank's groups, with the
  /// rewards that were given. Throws DataError.
  ScoredRollouts read(int64_t index) const;

 private:
  RolloutStore store_;
  Communicator& comm_;
};

}  // namespace meed
