#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>
#include <vector>

#include "algorithms/policy.h"
#include "algorithms/rollout_update_loop.h"
#include "libpolicy/models/token_logprobs.h"

namespace meed {

class TrainingRun;

/// Turns one generation into updates of the policy: log-probabilities before the first update,
/// micro-batches, losses. One per run; all ranks call it together.
class PolicyUpdater {
 public:
  /// `num_shares`: parts of a generation, each an update of its own; `num_updates`: of a
  /// generation.
  PolicyUpdater(TrainingRun& run, OnlineAlgorithm& algorithm, Policy& policy, int64_t num_shares,
                int64_t num_updates);

  /// Takes up a generation; `scored` must stay until the last update.
  void begin(const ScoredRollouts& scored, const at::Tensor& advantages_PG);
  /// One update on a share of the generation; `first`: of the passes over it.
  void update(Learner& learner, int64_t share, bool first);
  /// The generation's completions on this rank with what was computed of them.
  std::span<const CompletionTokens> items() const { return items_; }

 private:
  struct Packed {
    PackedBatch batch;
    at::Tensor selected_M, completion_M, group_C;
    std::vector<int64_t> lengths;
  };

  void make_items();
  std::vector<std::span<CompletionTokens>> micro_batches(std::span<CompletionTokens> items) const;
  /// `reference`: with the prompts that the reference reads.
  Packed pack(std::span<const CompletionTokens> items, bool reference = false) const;
  at::Tensor token_mask(const Completion& completion) const;
  bool needs_old_logprobs() const;
  TokenLogprobs without_gradient(CausalLm& model, const Packed& packed, bool entropy) const;
  void compute_old_logprobs();
  void take_stored_logprobs();
  void compute_ref_logprobs();
  void compute_values();
  void compute_current_logprobs(std::span<CompletionTokens> items) const;
  double entropy_threshold() const;
  at::Tensor entropy_mask(const at::Tensor& entropies) const;
  UpdateTotals totals_of(std::span<const CompletionTokens> items) const;
  double advantage_of(const CompletionTokens& item) const;
  bool has_advantage(const CompletionTokens& item) const;
  size_t learning_first(std::span<CompletionTokens> items) const;
  LossOutput loss(std::span<const CompletionTokens> items, const Packed& packed,
                  const UpdateTotals& totals, bool first);
  PolicyBatch make_batch(std::span<const CompletionTokens> items, const Packed& packed,
                         const TokenLogprobs& tokens) const;
  void record_sampling_difference(const PolicyBatch& batch);

  TrainingRun& run_;
  OnlineAlgorithm& algorithm_;
  Policy& policy_;
  const Recipe& recipe_;
  int64_t num_shares_, num_updates_;
  const ScoredRollouts* scored_ = nullptr;
  at::Tensor advantages_PG_;
  std::vector<CompletionTokens> items_;
  double entropy_threshold_ = -1.0;  ///< of the generation
};

}  // namespace meed
