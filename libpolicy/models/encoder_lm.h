#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <memory>
#include <string>

#include "libpolicy/core/parameters.h"
#include "libpolicy/models/packed_batch.h"

namespace meed {

/// What config.json says of a BERT encoder.
struct EncoderConfig {
  int64_t vocab_size = 0, hidden_size = 0, intermediate_size = 0, num_layers = 0, num_heads = 0;
  int64_t max_positions = 0, type_vocab_size = 2;
  double norm_eps = 1e-12;
  std::string activation = "gelu";

  /// Throws DataError that names the key and what is supported.
  static EncoderConfig from_json(const std::string& json, const std::string& where);
};

/// A BERT-type encoder for embeddings: bidirectional attention within each segment, no padding.
/// float32. Not thread-safe.
class EncoderLm {
 public:
  virtual ~EncoderLm() = default;
  /// Reads a Hugging Face folder (BertModel; names with or without "bert."). `trainable`: its
  /// parameters require gradients. Throws DataError.
  static std::unique_ptr<EncoderLm> load(const std::filesystem::path& path, bool trainable = false);

  virtual const EncoderConfig& config() const = 0;
  virtual ParameterStore& parameters() = 0;
  /// float32 [N, D]: the last layer's output; differentiable if it is trainable and grad mode is
  /// on. Segments have no prefixes; types_N (int64) are the token types, undefined: 0. Throws
  /// DataError for an id outside the vocabulary or a segment longer than the position table.
  virtual at::Tensor hidden_states(const PackedBatch& batch, const at::Tensor& types_N = {}) = 0;
};

/// Mean over each segment's tokens: [B, D].
at::Tensor mean_pool(const at::Tensor& hidden_ND, const PackedBatch& batch);

/// Sentence embeddings as sentence-transformers' all-MiniLM computes them: mean-pooled hidden
/// states of length 1. [B, D]; their products are cosine similarities.
at::Tensor embed_segments(EncoderLm& encoder, const PackedBatch& batch);

}  // namespace meed
