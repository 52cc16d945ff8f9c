#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <optional>
#include <span>

#include "algorithms/offline_trainer.h"
#include "algorithms/policy.h"
#include "libpolicy/losses/loss_output.h"
#include "libpolicy/models/packed_batch.h"

namespace meed {

/// B rows of a prompt with chosen and rejected, packed so that the prompt stands once. M tokens of
/// completions; sequence b is row b's chosen, B + b its rejected.
struct PairBatch {
  explicit PairBatch(std::span<const EncodedRow> rows);

  PackedBatch batch;
  at::Tensor selected_M, sequence_M;  ///< int64
  at::Tensor lengths_2B;              ///< float32, tokens
  int64_t num_pairs = 0;

  at::Tensor chosen(const at::Tensor& values_2B) const { return values_2B.narrow(0, 0, num_pairs); }
  at::Tensor rejected(const at::Tensor& values_2B) const {
    return values_2B.narrow(0, num_pairs, num_pairs);
  }
};

/// Summed log-probabilities of the pairs under the policy, with gradient.
struct PairLogprobs {
  at::Tensor sums_2B;   ///< with ld_alpha as pair_logprob_sums gives them
  at::Tensor plain_2B;  ///< without
  MetricSums metrics;   ///< entropy, mean_token_accuracy
};
PairLogprobs pair_logprobs(CausalLm& model, const PairBatch& pairs,
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

 private:
  std::string name_;
  int64_t max_length_;
  bool keep_start_;
  const Tokenizer* tokenizer_ = nullptr;
  std::unique_ptr<Policy> policy_;
};

}  // namespace meed
