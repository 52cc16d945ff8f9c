#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <memory>

#include "libpolicy/models/causal_lm.h"

namespace meed {

class Tokenizer;

/// A decoder with a linear head on its last token: transformers' ...ForSequenceClassification. One label is a scalar reward model.
class SequenceClassifier {
 public:
  /// Reads a ...ForSequenceClassification folder, or a causal language model that gets a fresh head (normal, std 0.02, from `seed`).
  /// Throws DataError if a head is there with another number of labels.
  static std::unique_ptr<SequenceClassifier> load(const std::filesystem::path& path, const LoadOptions& options, int64_t num_labels, uint64_t seed);

  CausalLm& backbone() { return *backbone_; }
  /// The backbone's parameters and "score.weight" [num_labels, D].
  ParameterStore& parameters() { return parameters_; }
  void sync_compute_weights() { backbone_->sync_compute_weights(); }

  /// float32 [B, num_labels]: the scores at the tokens `last_B` (int64, indices into [0, N)).
  at::Tensor forward(const PackedBatch& batch, const at::Tensor& last_B);
  /// A folder that transformers reads. Throws DataError.
  void save(const std::filesystem::path& folder, const Tokenizer* tokenizer, at::ScalarType dtype) const;

 private:
  std::unique_ptr<CausalLm> backbone_;
  ParameterStore parameters_;
  at::Tensor score_;
  int64_t num_labels_ = 1;
};

/// Writes a backbone with a head on it as a ...ForSequenceClassification of `num_labels` labels. Throws DataError.
void save_classifier(const std::filesystem::path& folder, ModelConfig config, int64_t num_labels, const ParameterStore& parameters, const Tokenizer* tokenizer, at::ScalarType dtype);

}  // namespace meed
