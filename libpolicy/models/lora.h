#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "libpolicy/models/causal_lm.h"

namespace meed {

/// Low-rank adapters (Hu et al. 2021) as PEFT names and initialises them.
struct LoraOptions {
  int64_t rank = 16;
  double alpha = 32.0;      ///< the adapter's product is scaled by alpha / rank
  bool use_rslora = false;  ///< alpha / sqrt(rank) instead
  /// Module names or their endings ("q_proj", "self_attn.q_proj"; GPT-2: "c_attn"), or
  /// "all-linear": every linear map of the layers.
  std::vector<std::string> target_modules = {"all-linear"};
  uint64_t seed = 0;
};

/// Adds adapters to the model: A is Kaiming-uniform (a = sqrt 5) from the seed, B zero, so that the
/// model's output does not change. Base parameters stop requiring gradients; the factors are
/// float32 leaves in parameters(), named "MODULE.lora_A.weight" [rank, in] and
/// "MODULE.lora_B.weight" [out, rank]. With dtype bfloat16 load the model with trainable = false:
/// float32 masters of frozen weights are memory for nothing. Throws ConfigError naming a target
/// that matches no module (and what there is), or a rank below 1.
void add_lora(CausalLm& model, const LoraOptions& options);

bool has_lora(CausalLm& model);

/// The adapters' factors, in the order of parameters().
std::vector<std::pair<std::string, at::Tensor>> lora_parameters(CausalLm& model);

/// Adds the products to the weights and removes the adapters. The weights stay frozen.
void merge_lora(CausalLm& model);

/// Runs the base model while it lives: the reference policy of LoRA training.
class AdaptersDisabled {
 public:
  explicit AdaptersDisabled(CausalLm& model) : model_(model), before_(model.adapters_enabled()) {
    model.set_adapters_enabled(false);
  }
  ~AdaptersDisabled() { model_.set_adapters_enabled(before_); }
  AdaptersDisabled(const AdaptersDisabled&) = delete;
  AdaptersDisabled& operator=(const AdaptersDisabled&) = delete;

 private:
  CausalLm& model_;
  const bool before_;
};

}  // namespace meed
