#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "libpolicy/data/example.h"

namespace meed {

/// A reward function whose model goes on learning while it serves (Cooper). The interface stands
/// beside RewardFunction.
class TrainableReward {
 public:
  struct Text {
    const Example* example = nullptr;
    std::string completion;
  };
  virtual ~TrainableReward() = default;
  /// Float32 masters that require gradients; throws ConfigError if the recipe did not ask for it.
  virtual std::vector<std::pair<std::string, at::Tensor>> trainable_parameters() = 0;
  /// float32 [B] with gradient: the number whose rising function the reward is.
  virtual at::Tensor logits(std::span<const Text> texts) = 0;
  /// Masters -> compute weights, after an update.
  virtual void sync_weights() = 0;
  /// A reward model's folder, in float32; and its weights back. Throws DataError.
  virtual void save_model(const std::filesystem::path& folder) const = 0;
  virtual void load_model(const std::filesystem::path& folder) = 0;
};

}  // namespace meed
