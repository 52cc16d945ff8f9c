#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <string>
#include <vector>

#include "libpolicy/core/parameters.h"
#include "libpolicy/models/model_config.h"

namespace meed {

class CausalLm;
class Tokenizer;

/// How an adapter was made, in PEFT's terms.
struct AdapterConfig {
  int64_t r = 0;
  double lora_alpha = 8.0;
  bool use_rslora = false;
  std::vector<std::string> target_modules;
  std::string base_model;

  double scale() const;  ///< lora_alpha / r, or by its root
};

/// Writes config.json, generation_config.json, model.safetensors (shards above 4 GB) and, if given, the tokenizer's files into an
/// existing folder, as transformers reads them. Floating-point tensors are written in `dtype` (kFloat, kBFloat16, kHalf). A model with
/// an adapter is written merged; then `adapter` must be given. Throws DataError.
void save_model(const std::filesystem::path& folder, CausalLm& model, const Tokenizer* tokenizer, at::ScalarType dtype,
                const AdapterConfig* adapter = nullptr);

/// The same for any parameters under Hugging Face names; `config` decides the architecture.
void save_parameters(const std::filesystem::path& folder, const ModelConfig& config, const ParameterStore& parameters, const Tokenizer* tokenizer,
                     at::ScalarType dtype, const AdapterConfig* adapter = nullptr);

/// adapter_config.json and adapter_model.safetensors, as PEFT reads them. With `head` the adapter is a sequence classifier's and the
/// head's parameters stand whole in it: PEFT's modules_to_save. Throws DataError.
void save_adapter(const std::filesystem::path& folder, CausalLm& model, const AdapterConfig& adapter, const ParameterStore* head = nullptr);

/// Copies the factors of a PEFT folder into a model that has such an adapter. Throws DataError naming what is missing or misshapen.
void load_adapter(const std::filesystem::path& folder, CausalLm& model);

/// Reads a PEFT folder and merges it into the model. Throws DataError on kinds of adapter that are not plain LoRA.
void merge_adapter(const std::filesystem::path& folder, CausalLm& model);

}  // namespace meed
