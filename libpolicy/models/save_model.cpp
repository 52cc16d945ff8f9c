#include "libpolicy/models/save_model.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <set>

#include "libpolicy/checkpoint/safetensors.h"
#include "libpolicy/core/error.h"
#include "libpolicy/core/files.h"
#include "libpolicy/models/causal_lm.h"
#include "libpolicy/models/lora.h"
#include "libpolicy/text/tokenizer.h"

namespace meed {
namespace {

using Json = nlohmann::ordered_json;

constexpr int64_t kMaxShardBytes = int64_t{4} << 30;

std::string dtype_name(at::ScalarType dtype) {
  if (dtype == at::kBFloat16) return "bfloat16";
  return dtype == at::kHalf ? "float16" : "float32";
}

constexpr const char* kFactorA = ".lora_A.weight";
constexpr const char* kFactorB = ".lora_B.weight";
constexpr const char* kPeftPrefix = "base_model.model.";

/// W + scale B A for a weight that has an adapter, W for any other.
at::Tensor merged(const std::string& name, const at::Tensor& weight, const ParameterStore& parameters, const ModelConfig& config,
                  const AdapterConfig* adapter) {
  constexpr std::string_view kWeight = ".weight";
  if (!name.ends_with(kWeight)) return weight;
  const auto module = name.substr(0, name.size() - kWeight.size());
  if (!parameters.has(module + kFactorA)) return weight;
  MEED_CHECK(adapter != nullptr, "a model with an adapter is saved without its configuration");
  const auto product = at::matmul(parameters.at(module + kFactorB).detach(), parameters.at(module + kFactorA).detach()) * adapter->scale();
  return weight.to(at::kFloat) + (config.model_type == "gpt2" ? product.t() : product);  // GPT-2's Conv1D keeps [in, out]
}

Json read_adapter_config(const std::filesystem::path& folder) {
  const auto path = folder / "adapter_config.json";
  auto json = Json::parse(read_file(path), nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) throw DataError(path.string() + ": not a JSON object");
  const auto refuse = [&](const std::string& what) { throw DataError(path.string() + ": " + what + " is not supported; only plain LoRA is"); };
  if (json.value("peft_type", "LORA") != "LORA") refuse("peft_type " + json["peft_type"].dump());
  if (json.value("use_dora", false)) refuse("use_dora");
  if (json.value("bias", "none") != "none") refuse("bias " + json["bias"].dump());
  for (const char* key : {"rank_pattern", "alpha_pattern"})
    if (json.contains(key) && json[key].is_object() && !json[key].empty()) refuse(key);
  if (json.contains("modules_to_save") && !json["modules_to_save"].is_null() && !json["modules_to_save"].empty()) refuse("modules_to_save");
  if (!json.contains("r") || !json["r"].is_number_integer() || json["r"].get<int64_t>() < 1) throw DataError(path.string() + ": r: expected a positive integer");
  if (!json.contains("lora_alpha") || !json["lora_alpha"].is_number()) throw DataError(path.string() + ": lora_alpha: expected a number");
  return json;
}

}  // namespace

double AdapterConfig::scale() const {
  const auto rank = static_cast<double>(r);
  return lora_alpha / (use_rslora ? std::sqrt(rank) : rank);
}

void save_parameters(const std::filesystem::path& folder, const ModelConfig& config, const ParameterStore& parameters, const Tokenizer* tokenizer,
                     at::ScalarType dtype, const AdapterConfig* adapter) {
  at::NoGradGuard no_grad;
  auto json = Json::parse(config.to_json());
  json.erase("torch_dtype");
  json["dtype"] = dtype_name(dtype);
  write_file_atomic(folder / "config.json", json.dump(2) + "\n");
  Json generation = Json::object();
  if (config.bos_token_id) generation["bos_token_id"] = *config.bos_token_id;
  if (config.eos_token_ids.size() == 1) generation["eos_token_id"] = config.eos_token_ids[0];
  if (config.eos_token_ids.size() > 1) generation["eos_token_id"] = config.eos_token_ids;
  if (config.pad_token_id) generation["pad_token_id"] = *config.pad_token_id;
  write_file_atomic(folder / "generation_config.json", generation.dump(2) + "\n");
  NamedTensors tensors;
  for (const auto& [name, tensor] : parameters.items()) {
    if (name.ends_with(kFactorA) || name.ends_with(kFactorB)) continue;
    tensors.emplace_back(name, merged(name, tensor.detach(), parameters, config, adapter).to(dtype));
  }
  write_sharded_safetensors(folder, tensors, kMaxShardBytes);
  if (tokenizer != nullptr) tokenizer->save(folder);
}

void save_model(const std::filesystem::path& folder, CausalLm& model, const Tokenizer* tokenizer, at::ScalarType dtype, const AdapterConfig* adapter) {
  save_parameters(folder, model.config(), model.parameters(), tokenizer, dtype, adapter);
}

void save_adapter(const std::filesystem::path& folder, CausalLm& model, const AdapterConfig& adapter, const ParameterStore* head) {
  NamedTensors tensors;
  for (const auto& [name, tensor] : lora_parameters(model)) tensors.emplace_back(kPeftPrefix + name, tensor.detach());
  std::set<std::string> modules;
  if (head != nullptr)
    for (const auto& [name, tensor] : head->items()) {
      tensors.emplace_back(kPeftPrefix + name, tensor.detach());
      modules.insert(name.substr(0, name.rfind('.')));
    }
  write_safetensors(folder / "adapter_model.safetensors", tensors);
  const bool all = adapter.target_modules == std::vector<std::string>{"all-linear"};
  Json json = {{"peft_type", "LORA"}, {"task_type", head == nullptr ? "CAUSAL_LM" : "SEQ_CLS"}, {"base_model_name_or_path", adapter.base_model}, {"r", adapter.r},
               {"lora_alpha", adapter.lora_alpha}, {"lora_dropout", 0.0}, {"use_rslora", adapter.use_rslora}, {"bias", "none"},
               {"fan_in_fan_out", model.config().model_type == "gpt2"}, {"inference_mode", true},
               {"target_modules", all ? Json("all-linear") : Json(adapter.target_modules)}};
  if (head != nullptr) json["modules_to_save"] = modules;
  write_file_atomic(folder / "adapter_config.json", json.dump(2) + "\n");
}

void load_adapter(const std::filesystem::path& folder, CausalLm& model) {
  at::NoGradGuard no_grad;
  const SafetensorsFile file(folder / "adapter_model.safetensors");
  for (const auto& [name, tensor] : lora_parameters(model)) {
    const auto value = file.load(kPeftPrefix + name);
    if (value.sizes() != tensor.sizes())
      throw DataError((folder / "adapter_model.safetensors").string() + ": " + name + " has another shape; the adapter belongs to another model");
    tensor.detach().copy_(value);
  }
}

void merge_adapter(const std::filesystem::path& folder, CausalLm& model) {
  const auto json = read_adapter_config(folder);
  LoraOptions options{.rank = json["r"].get<int64_t>(), .alpha = json["lora_alpha"].get<double>(), .use_rslora = json.value("use_rslora", false)};
  // The factors themselves say which modules have an adapter; a pattern in target_modules need not be understood.
  options.target_modules.clear();
  const SafetensorsFile file(folder / "adapter_model.safetensors");
  for (const auto& name : file.names()) {
    if (!name.ends_with(kFactorA) || !name.starts_with(kPeftPrefix)) continue;
    const auto module = name.substr(std::string(kPeftPrefix).size());
    options.target_modules.push_back(module.substr(0, module.size() - std::string(kFactorA).size()));
  }
  if (options.target_modules.empty()) throw DataError((folder / "adapter_model.safetensors").string() + ": holds no LoRA factors");
  try {
    add_lora(model, options);
  } catch (const ConfigError& e) {
    throw DataError(folder.string() + ": the adapter does not fit the model: " + e.what());
  }
  load_adapter(folder, model);
  merge_lora(model);
}

}  // namespace meed
