#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <unordered_map>
#include <vector>

#include "algorithms/pair_batch.h"

namespace meed {

class Dataset;
class TrainingRun;

/// The reference's sums of log-probabilities for every pair of the run's data, computed once, so
/// that no reference need be held while training (TRL's precompute_ref_log_probs).
class ReferenceLogprobs {
 public:
  /// Reads and encodes all of data and eval_data; each rank computes a share, all hold the whole.
  /// Frees the policy's reference. All ranks call it.
  ReferenceLogprobs(TrainingRun& run, Policy& policy,
                    const std::function<EncodedRow(const Example&)>& encode,
                    std::optional<double> ld_alpha);
  /// float32 [2B], in the order of PairBatch. Throws InternalError for a pair that is not in the
  /// data.
  at::Tensor sums(std::span<const EncodedRow> rows) const;

 private:
  struct Sums {
    float chosen = 0.0f, rejected = 0.0f;
  };
  void add(TrainingRun& run, const Dataset& data, Policy& policy,
           const std::function<EncodedRow(const Example&)>& encode, std::optional<double> ld_alpha);
  std::unordered_map<uint64_t, Sums> sums_;  ///< by key_of()
};

}  // namespace meed
