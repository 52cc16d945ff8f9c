#include "libpolicy/models/save_model.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <nlohmann/json.hpp>

#include "libpolicy/checkpoint/safetensors.h"
#include "libpolicy/core/files.h"
#include "libpolicy/models/causal_lm.h"
#include "libpolicy/text/tokenizer.h"

namespace meed {
namespace {

using Json = nlohmann::ordered_json;

constexpr int64_t kMaxShardBytes = int64_t{4} << 30;

std::string dtype_name(at::ScalarType dtype) {
  if (dtype == at::kBFloat16) return "bfloat16";
  return dtype == at::kHalf ? "float16" : "float32";
}

}  // namespace

void save_parameters(const std::filesystem::path& folder, const ModelConfig& config, const ParameterStore& parameters, const Tokenizer* tokenizer,
                     at::ScalarType dtype, const std::string& architecture) {
  at::NoGradGuard no_grad;
  auto json = Json::parse(config.to_json());
  json.erase("torch_dtype");
  json["dtype"] = dtype_name(dtype);
  if (!architecture.empty()) json["architectures"] = {architecture};
  write_file_atomic(folder / "config.json", json.dump(2) + "\n");
  Json generation = Json::object();
  if (config.bos_token_id) generation["bos_token_id"] = *config.bos_token_id;
  if (config.eos_token_ids.size() == 1) generation["eos_token_id"] = config.eos_token_ids[0];
  if (config.eos_token_ids.size() > 1) generation["eos_token_id"] = config.eos_token_ids;
  if (config.pad_token_id) generation["pad_token_id"] = *config.pad_token_id;
  write_file_atomic(folder / "generation_config.json", generation.dump(2) + "\n");
  NamedTensors tensors;
  for (const auto& [name, tensor] : parameters.items()) tensors.emplace_back(name, tensor.detach().to(dtype));
  write_sharded_safetensors(folder, tensors, kMaxShardBytes);
  if (tokenizer != nullptr) tokenizer->save(folder);
}

void save_model(const std::filesystem::path& folder, CausalLm& model, const Tokenizer* tokenizer, at::ScalarType dtype) {
  save_parameters(folder, model.config(), model.parameters(), tokenizer, dtype);
}

}  // namespace meed
