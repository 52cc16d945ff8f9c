#include "libpolicy/models/causal_lm.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/core/grad_mode.h>

#include <nlohmann/json.hpp>

#include "libpolicy/checkpoint/model_files.h"
#include "libpolicy/core/error.h"
#include "libpolicy/models/decoder.h"

namespace meed {
namespace {

void load_parameters(const ModelFiles& files, ParameterStore& parameters) {
  at::NoGradGuard no_grad;
  for (const auto& [name, leaf] : parameters.items()) {
    const auto value = files.load(files.stored_name(name), leaf.scalar_type());
    if (value.sizes() != leaf.sizes())
      throw DataError(files.where() + name + ": config.json asks for " + c10::str(leaf.sizes()) +
                      ", the file has " + c10::str(value.sizes()));
    leaf.detach().copy_(value);
  }
}

// generation_config.json may name more end tokens than config.json does.
void add_generation_eos(const ModelFiles& files, ModelConfig& config) {
  const auto& text = files.generation_config_json();
  if (text.empty()) return;
  const auto json = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object() || !json.contains("eos_token_id")) return;
  const auto add = [&](const nlohmann::json& id) {
    if (!id.is_number_integer()) return;
    const auto value = id.get<int64_t>();
    auto& known = config.eos_token_ids;
    if (std::find(known.begin(), known.end(), value) == known.end()) known.push_back(value);
  };
  const auto& ids = json["eos_token_id"];
  if (ids.is_array())
    for (const auto& id : ids) add(id);
  else
    add(ids);
}

void check_sizes(const ModelFiles& files, const ModelConfig& config) {
  // A config that asks for far more than the file holds must fail before memory is taken for it.
  const double layer =
      static_cast<double>(config.hidden_size) *
      static_cast<double>((config.num_heads + config.num_kv_heads) * 2 * config.head_dim +
                          3 * config.intermediate_size);
  const double total =
      layer * static_cast<double>(config.num_layers) +
      static_cast<double>(config.vocab_size) * static_cast<double>(config.hidden_size);
  if (total > 1e12)
    throw DataError(files.where() + "config.json describes a model of " + c10::str(total) +
                    " parameters");
  const bool gpt2 = config.model_type == "gpt2";
  const std::string last = (gpt2 ? "transformer.h." : "model.layers.") +
                           std::to_string(config.num_layers - 1) +
                           (gpt2 ? ".ln_1.weight" : ".input_layernorm.weight");
  if (!files.has(files.stored_name(last)))
    throw DataError(files.where() + last + " is missing: config.json asks for " +
                    std::to_string(config.num_layers) + " layers");
}

std::unique_ptr<Decoder> make_decoder(const ModelFiles& files, const ModelConfig& config,
                                      const LoadOptions& options) {
  try {
    return std::make_unique<Decoder>(config, options);
  } catch (const c10::Error& e) {
    throw DataError(files.where() +
                    "the model that config.json describes does not fit into memory (" +
                    e.what_without_backtrace() + ")");
  }
}

}  // namespace

std::unique_ptr<CausalLm> CausalLm::load(const ModelFiles& files, const LoadOptions& options) {
  auto config = ModelConfig::from_json(files.config_json(), files.where() + "config.json");
  add_generation_eos(files, config);
  check_sizes(files, config);
  auto chosen = options;
  // A ...ForSequenceClassification folder holds no language-model head.
  if (config.num_labels > 0 && !config.tie_embeddings && !files.has("lm_head.weight"))
    chosen.lm_head = false;
  auto model = make_decoder(files, config, chosen);
  load_parameters(files, model->parameters());
  model->sync_compute_weights();
  return model;
}

std::unique_ptr<CausalLm> CausalLm::load(const std::filesystem::path& path,
                                         const LoadOptions& options) {
  return load(*ModelFiles::open(path), options);
}

std::unique_ptr<CausalLm> CausalLm::create(const ModelConfig& config, uint64_t seed,
                                           const LoadOptions& options, double initializer_range) {
  auto model = std::make_unique<Decoder>(config, options);
  auto generator = at::detail::createCPUGenerator(seed);
  at::NoGradGuard no_grad;
  for (const auto& [name, leaf] : model->parameters().items()) {
    const auto value = leaf.detach();
    if (name.ends_with(".bias"))
      value.zero_();
    else if (value.dim() == 1)
      value.fill_(1.0);
    else
      value.copy_(at::empty(value.sizes(), at::kFloat).normal_(0.0, initializer_range, generator));
  }
  model->sync_compute_weights();
  return model;
}

at::Tensor head_input(const at::Tensor& hidden) { return hidden.to(at::kCPU, at::kFloat); }

}  // namespace meed
