#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "libpolicy/models/model_config.h"

namespace meed {

/// Cosines and sines of a batch's rotations, float32 [N, head_dim / 2]; undefined without rotation.
struct RotaryTables {
  at::Tensor cosine, sine;
};

/// Inverse frequencies of a head, scaled as config.rope_scaling says; float32 arithmetic as in
/// transformers' ROPE_INIT_FUNCTIONS. [head_dim / 2]
std::vector<float> rope_inverse_frequencies(const ModelConfig& config);

/// Rotation tables by position, grown as positions come.
class RotaryCache {
 public:
  void set_frequencies(std::vector<float> inverse_frequencies) {
    inverse_frequencies_ = std::move(inverse_frequencies);
  }
  RotaryTables at(const at::Tensor& positions_N);

 private:
  std::vector<float> inverse_frequencies_;
  at::Tensor cosine_, sine_;  // [positions seen, head_dim / 2]
};

}  // namespace meed
