#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <span>

#include "algorithms/algorithm.h"
#include "algorithms/learner.h"
#include "algorithms/reference_sync.h"
#include "algorithms/scored_rollouts.h"
#include "libpolicy/checkpoint/state_dict.h"
#include "libpolicy/losses/loss_output.h"
#include "libpolicy/models/packed_batch.h"

namespace meed {

class Communicator;
class RewardPipeline;

/// A completion's place in the generation, and what updates need of its T tokens, float32 [T].
struct CompletionTokens {
  size_t group = 0, index = 0;
  at::Tensor mask_T;                     ///< 1 where a token counts
  at::Tensor old_logprobs_T, entropy_T;  ///< by the training forward, before any update
  at::Tensor ref_logprobs_T;             ///< undefined unless needs_reference()
  at::Tensor values_T;                   ///< of the critic, before any update
  at::Tensor advantages_T, returns_T;    ///< what token_advantages() leaves
  at::Tensor logprobs_T;                 ///< before this update, if needs_current_logprobs()
  at::Tensor selected_T;                 ///< 1 on the tokens that begin_update() picked
};

/// One micro-batch of an update. M tokens of C completions; every tensor is float32 on the CPU
/// unless said otherwise. What an algorithm did not ask for is undefined.
struct PolicyBatch {
  const PackedBatch* packed = nullptr;  ///< prompts and completions
  at::Tensor selected_M;                ///< int64, where the completions' tokens stand in it
  at::Tensor logprobs_M;           ///< current policy at the sampling temperature, with gradient
  at::Tensor entropy_M;            ///< of the same, with gradient
  at::Tensor old_logprobs_M;       ///< the policy that sampled, by the training forward
  at::Tensor sampling_logprobs_M;  ///< the policy that sampled, by the engine
  at::Tensor ref_logprobs_M;       ///< reference
  at::Tensor mask_M;               ///< 1 where a token counts
  at::Tensor entropy_mask_M;       ///< 1 on the tokens of largest entropy
  at::Tensor selected_tokens_M;    ///< 1 on the tokens that begin_update() picked
  at::Tensor completion_M;         ///< int64, which completion a token belongs to, in [0, C)
  at::Tensor group_C;              ///< int64, which group a completion belongs to, from 0 on
  at::Tensor advantages_C;
  at::Tensor advantages_M, returns_M, old_values_M;  ///< where advantages are a token's
  int64_t num_completions = 0;
};

/// Counts over all micro-batches and ranks of one update: what losses divide by.
struct UpdateTotals {
  double num_tokens = 0.0;       ///< tokens that count
  double num_completions = 0.0;  ///< all of them, masked ones too
  double num_entropy_tokens = 0.0;
  double num_groups = 0.0;  ///< of which a completion takes part
};

/// What one online algorithm adds to the shared loop.
class OnlineAlgorithm : public Algorithm {
 public:
  void train(TrainingRun& run) final;

  /// Passes over each generation.
  virtual int64_t num_iterations() const { return 1; }
  virtual bool needs_reference() const { return false; }
  /// Log-probabilities of the sampling policy by the training forward, though one update a
  /// generation could do without.
  virtual bool needs_old_logprobs() const { return false; }
  /// Share of a generation's tokens, those of largest entropy, that the policy's loss is over.
  virtual double top_entropy_quantile() const { return 1.0; }
  /// Leave completions that ran into max_completion_length out of the loss.
  virtual bool mask_truncated_completions() const { return false; }
  /// How the reference follows the policy; none: it stays.
  virtual std::optional<ReferenceSync> reference_sync() const { return std::nullopt; }
  /// What the reference reads in place of the row's prompt; none: the prompt.
  virtual std::optional<Content> reference_prompt(const Example&) const { return std::nullopt; }
  /// Rewards of a greedy completion of every prompt, ScoredRollouts::greedy_P.
  virtual bool needs_greedy() const { return false; }
  /// A group's completions stand in one micro-batch.
  virtual bool keeps_groups_whole() const { return false; }
  /// Completions that take part in the update and in its totals, bool [P, G]; undefined: all.
  virtual at::Tensor participants(const ScoredRollouts&) const { return {}; }
  /// Sees the run and its rewards before the first step, and may add what it trains beside the
  /// policy (a critic).
  virtual void prepare(TrainingRun&, RewardPipeline&, TrainableModel&) {}

  /// One advantage per completion, [P, G]. All ranks call it.
  virtual at::Tensor advantages(const ScoredRollouts& rollouts, Communicator& comm) = 0;
  /// Advantages by token: whether they are; whether there is a critic, and its values [M]; what
  /// fills advantages_T and returns_T of every completion, which all ranks call.
  virtual bool by_token() const { return false; }
  virtual bool has_critic() const { return false; }
  virtual at::Tensor values(const PackedBatch&, const at::Tensor&) { return {}; }
  virtual void token_advantages(const ScoredRollouts&, std::span<CompletionTokens>, Communicator&,
                                MetricsWriter&) {}

  /// Before each update: fills selected_T, knowing every completion of the update. All ranks call
  /// it.
  virtual bool needs_current_logprobs() const { return false; }
  virtual void begin_update(const ScoredRollouts&, std::span<CompletionTokens>, Communicator&) {}
  /// Whether the loss has a gradient in tokens of advantage 0. If not, groups without an advantage
  /// are read for the metrics alone.
  virtual bool learns_without_advantage() const { return true; }
  virtual LossOutput loss(const PolicyBatch& batch, const UpdateTotals& totals,
                          int64_t max_completion_length) = 0;
  /// After each update of the policy. All ranks call it.
  virtual void end_update(Communicator&, MetricsWriter&) {}
  /// Runs after the policy's updates of this generation. All ranks call it.
  virtual void after_update(const ScoredRollouts&, Communicator&, MetricsWriter&) {}
  virtual void save(StateDict&) const {}  ///< what it adapts from step to step
  virtual void load(const StateDict&) {}
};

}  // namespace meed
