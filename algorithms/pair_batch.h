#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <optional>
#include <span>

#include "algorithms/offline_trainer.h"
#include "algorithms/policy.h"
#include "libpolicy/losses/dpo.h"
#include "libpolicy/losses/loss_output.h"
#include "libpolicy/models/packed_batch.h"

namespace meed {

/// B rows of a prompt with K completions each, packed so that the prompt stands once. M tokens of
/// completions; sequence k B + b is row b's completion k.
struct CompletionBatch {
  explicit CompletionBatch(std::span<const EncodedRow> rows);

  PackedBatch batch;
  at::Tensor selected_M, sequence_M;  ///< int64
  at::Tensor lengths_S;               ///< float32 [K B], tokens
  int64_t num_rows = 0;
};

/// Chosen and rejected: sequence b is row b's chosen, B + b its rejected.
struct PairBatch : CompletionBatch {
  using CompletionBatch::CompletionBatch;
  at::Tensor chosen(const at::Tensor& values_2B) const { return values_2B.narrow(0, 0, num_rows); }
  at::Tensor rejected(const at::Tensor& values_2B) const {
    return values_2B.narrow(0, num_rows, num_rows);
  }
};

/// Summed log-probabilities of the pairs under the policy, with gradient.
struct PairLogprobs {
  at::Tensor sums_2B;    ///< with ld_alpha as pair_logprob_sums gives them
  at::Tensor plain_2B;   ///< without
  at::Tensor weights_B;  ///< WPO's weights of the pairs, if asked for; no gradient
  MetricSums metrics;    ///< entropy, mean_token_accuracy
};
PairLogprobs pair_logprobs(CausalLm& model, const PairBatch& pairs,
                           std::optional<double> ld_alpha = std::nullopt, bool weighted = false);

/// WPO (Zhou et al. 2024, eq. 2), how likely the policy itself is to give a pair: the product over
/// both sides of exp(mean over tokens of log p - log sum of p^2 over the vocabulary). float32 [B].
at::Tensor wpo_weights(CausalLm& model, const PairBatch& pairs, const at::Tensor& logprobs_M);

/// The sums alone: what a reference is asked for.
at::Tensor pair_sums(CausalLm& model, const PairBatch& pairs,
                     std::optional<double> ld_alpha = std::nullopt);

/// Keys and work that every trainer on preference pairs shares.
class PairAlgorithm : public OfflineAlgorithm {
 public:
  /// `name` for messages; `prompt_needed`: rows without a shared prompt are refused.
  PairAlgorithm(std::string name, int64_t max_length, bool keep_start)
      : name_(std::move(name)), max_length_(max_length), keep_start_(keep_start) {}
  TrainableModel prepare(TrainingRun& run) override;
  EncodedRow encode(const Example& example) override;
  double weight(const EncodedRow&) const override { return 1.0; }

 protected:
  Policy& policy() { return *policy_; }
  /// The reference follows the policy: Policy::trainable's moving_reference.
  virtual bool moves_reference() const { return false; }

 private:
  std::string name_;
  int64_t max_length_;
  bool keep_start_;
  const Tokenizer* tokenizer_ = nullptr;
  std::unique_ptr<Policy> policy_;
};

/// Ranges that DPO's losses need of their options, whoever makes the pairs.
void require_dpo_options(FieldVisitor& v, const DpoOptions& loss, double dynamic_beta_w,
                         double dynamic_beta_k);

}  // namespace meed
