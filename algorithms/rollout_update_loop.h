#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "algorithms/algorithm.h"
#include "libpolicy/generation/rollout.h"
#include "libpolicy/losses/loss_output.h"

namespace meed {

class Communicator;

/// The groups of one generation on this rank, scored. P groups of G completions.
struct ScoredRollouts {
  std::vector<RolloutGroup> groups;  ///< [P]
  at::Tensor rewards_PG;  ///< float64, weighted sum; NaN where no reward function applied
  std::map<std::string, at::Tensor> components;  ///< float64 [P, G] by reward name, unweighted
  std::map<std::string, at::Tensor> parts;       ///< float64 [P, G] by "<reward>/<part>"
  std::map<std::string, int64_t> unreadable;     ///< completions by "<reward>/<reason>"
};

/// One micro-batch of an update. M tokens of C completions; every tensor is float32 on the CPU
/// unless said otherwise.
struct PolicyBatch {
  at::Tensor logprobs_M;      ///< current policy at the sampling temperature, with gradient
  at::Tensor old_logprobs_M;  ///< the policy that sampled, by the training forward
  at::Tensor ref_logprobs_M;  ///< reference; undefined unless the algorithm needs it
  at::Tensor mask_M;          ///< 1 where a token counts
  at::Tensor completion_M;    ///< int64, which completion a token belongs to, in [0, C)
  at::Tensor advantages_C;
  int64_t num_completions = 0;
};

/// Counts over all micro-batches and ranks of one update: what losses divide by.
struct UpdateTotals {
  double num_tokens = 0.0;       ///< tokens that count
  double num_completions = 0.0;  ///< all of them, masked ones too
};

/// What one online algorithm adds to the shared loop.
class OnlineAlgorithm : public Algorithm {
 public:
  void train(TrainingRun& run) final;

  /// Passes over each generation.
  virtual int64_t num_iterations() const { return 1; }
  virtual bool needs_reference() const { return false; }
  /// Leave completions that ran into max_completion_length out of the loss.
  virtual bool mask_truncated_completions() const { return false; }
  /// One advantage per completion, [P, G]. All ranks call it.
  virtual at::Tensor advantages(const ScoredRollouts& rollouts, Communicator& comm) = 0;
  virtual LossOutput loss(const PolicyBatch& batch, const UpdateTotals& totals,
                          int64_t max_completion_length) = 0;
  /// Runs after the policy's updates of this generation.
  virtual void after_update(const ScoredRollouts&) {}
};

}  // namespace meed
