#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <span>

#include "libpolicy/generation/kv_cache.h"
#include "libpolicy/models/causal_lm.h"

namespace meed {

/// One token to run through the model. Its sequence's earlier tokens are in the cache or earlier in
/// the same call.
struct DecodeToken {
  int64_t id = 0;
  int64_t position = 0;  ///< in its sequence, prefix included
  KvSequence cache;
};

/// The inference-only forward pass: weights packed for few rows, keys and values in a paged cache.
/// Prompts and sampled tokens take the same path, and a token's result depends on its sequence
/// alone, bit for bit, not on what is computed with it. Not thread-safe; uses the threads of the
/// pool.
class DecodeModel {
 public:
  virtual ~DecodeModel() = default;
  /// Packs the model's present weights (adapters stay side products). Throws DataError on a shape
  /// that the kernels do not cover.
  static std::unique_ptr<DecodeModel> create(const CausalLm& model);
  static KvShape kv_shape(const CausalLm& model);

  /// [M, D] hidden states after the final norm, in the compute dtype. Fills the cache, whose
  /// segments must have room. The result is overwritten by the next call.
  virtual at::Tensor forward(std::span<const DecodeToken> tokens) = 0;
  /// float32 [M, V] logits of hidden states; rounded through bfloat16 where the model computes in
  /// it, as the training forward's are. The result is overwritten by the next call.
  virtual at::Tensor logits(const at::Tensor& hidden_MD) = 0;
};

}  // namespace meed
