#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>

#include "libpolicy/core/parameters.h"
#include "libpolicy/models/model_config.h"

namespace meed {

class CausalLm;
class Tokenizer;

/// Writes config.json, generation_config.json, model.safetensors (shards above 4 GB) and, if given, the tokenizer's files into an
/// existing folder, as transformers reads them. Floating-point tensors are written in `dtype` (kFloat, kBFloat16, kHalf).
/// A model with an adapter is written merged. Throws DataError.
void save_model(const std::filesystem::path& folder, CausalLm& model, const Tokenizer* tokenizer, at::ScalarType dtype);

/// The same for any parameters under Hugging Face names. `architecture`: "LlamaForCausalLM" ...; kept from the source config if empty.
void save_parameters(const std::filesystem::path& folder, const ModelConfig& config, const ParameterStore& parameters, const Tokenizer* tokenizer,
                     at::ScalarType dtype, const std::string& architecture = "");

}  // namespace meed
