#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "libpolicy/models/model_config.h"

namespace meed {

/// Cosines and sines of a batch's rotations, float32 [N, head_dim / 2]; undefined without rotation.
struct RotaryTables {
  at::Tensor cosine, sine;
};

/// How the heads of a model are rotated.
struct RotaryFrequencies {
  std::vector<float> inverse;     ///< [head_dim / 2]
  float attention_factor = 1.0f;  ///< scales cosines and sines
  int64_t max_positions = 0;      ///< they hold for sequences up to this length; 0: any
};

/// Scaled as config.rope_scaling says; float32 arithmetic as in transformers' ROPE_INIT_FUNCTIONS.
/// yarn: https://arxiv.org/abs/2309.00071. dynamic and longrope (https://arxiv.org/abs/2402.13753)
/// change the frequencies of a whole sequence once it exceeds a length, and keys in a cache cannot
/// follow; they hold up to that length.
RotaryFrequencies rotary_frequencies(const ModelConfig& config);

/// Rotation tables by position, grown as positions come.
class RotaryCache {
 public:
  void set_frequencies(RotaryFrequencies frequencies) { frequencies_ = std::move(frequencies); }
  /// Throws DataError where a position lies beyond what the frequencies hold for.
  RotaryTables at(const at::Tensor& positions_N);

 private:
  RotaryFrequencies frequencies_;
  at::Tensor cosine_, sine_;  // [positions seen, head_dim / 2]
};

}  // namespace meed
