#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "libpolicy/generation/rollout.h"

namespace meed {

/// One generation with its scores, as a rollout store keeps it. P groups of G completions.
struct StoredRollouts {
  int64_t step = 0;  ///< optimiser steps done when it was sampled
  std::vector<RolloutGroup> groups;
  at::Tensor rewards_PG;                          ///< float64, the sum
  at::Tensor terminal_PG;  ///< float64, the part that dense rewards do not hold; undefined: all
  at::Tensor advantages_PG;                       ///< float32
  std::map<std::string, at::Tensor> components;   ///< float64 [P, G] by reward, unweighted
  std::map<std::string, at::Tensor> transformed;  ///< the same after the transforms
  std::map<std::string, double> weights;          ///< of the sum
  std::vector<std::vector<std::vector<double>>> tokens_PGT;  ///< dense rewards; empty if none
};

/// A folder of HDF5 files, one a generation (step-00000012.h5), each written whole or not at all,
/// so that what is there stays readable whenever the program dies. h5py reads them. Datasets of a
/// file, chunked and compressed; a sequence's tokens stand from its offset to the next one:
///   prompt_tokens int64 [.], prompt_offsets int64 [P + 1], examples text [P] (JSON)
///   completion_tokens int64 [.], completion_offsets int64 [P G + 1], completions text [P G]
///   logprobs float32 [.] of the policy that sampled, loss_mask uint8 [.], token_rewards float64
///   [.] rewards float64 [P, G], terminal_rewards (what dense rewards do not hold of them; may be
///   absent: all) float64 [P, G], advantages float32 [P, G], components/NAME, transformed/NAME
///   float64 finish_reason, weight_version int64 [P, G]; step_ends int64 [.], step_offsets int64 [P
///   G + 1]
/// and the attributes format, step and weights (JSON).
class RolloutStore {
 public:
  explicit RolloutStore(std::filesystem::path folder);
  /// Replaces the generation of the same step. Throws DataError.
  void write(const StoredRollouts& rollouts) const;
  /// Files in the order of their steps.
  std::vector<std::filesystem::path> files() const;
  /// Throws DataError naming the file and what is wrong with it.
  static StoredRollouts read(const std::filesystem::path& file);

 private:
  std::filesystem::path folder_;
};

/// What travels between processes: all of it as bytes, and back.
std::string to_bytes(const StoredRollouts& rollouts);
StoredRollouts from_bytes(const std::string& bytes);
/// Prompt, row and further columns of an example as JSON, and back (throws what the parser throws).
std::string example_json(const Example& example);
Example example_from_json(const std::string& text);

}  // namespace meed
