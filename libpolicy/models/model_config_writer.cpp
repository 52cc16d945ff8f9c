// config.json as transformers reads it: what was read, with what changed.
#include <map>
#include <nlohmann/json.hpp>

#include "libpolicy/models/model_config.h"

namespace meed {
namespace {

using nlohmann::ordered_json;

std::string architecture(const ModelConfig& config) {
  const std::map<std::string, std::string> prefix{{"llama", "Llama"},
                                                  {"mistral", "Mistral"},
                                                  {"qwen2", "Qwen2"},
                                                  {"qwen3", "Qwen3"},
                                                  {"gpt2", "GPT2"}};
  if (config.num_labels > 0) return prefix.at(config.model_type) + "ForSequenceClassification";
  return prefix.at(config.model_type) +
         (config.model_type == "gpt2" ? "LMHeadModel" : "ForCausalLM");
}

// layer_types only where they differ: transformers then takes it over max_window_layers.
void write_window_layers(const ModelConfig& config, ordered_json& json) {
  if (config.model_type != "mistral") json["max_window_layers"] = 0;
  if (config.window_layers.empty()) return;
  auto types = ordered_json::array();
  for (int64_t i = 0; i < config.num_layers; ++i)
    types.push_back(config.window_of(i) > 0 ? "sliding_attention" : "full_attention");
  json["layer_types"] = types;
}

// Both spellings: transformers 5 reads rope_parameters, earlier ones rope_theta and rope_scaling.
void write_rope(const ModelConfig& config, ordered_json& json) {
  const auto& scaling = config.rope_scaling;
  ordered_json rope{{"rope_type", scaling.type}};
  if (scaling.type != "default") rope["factor"] = scaling.factor;
  if (scaling.type == "llama3") {
    rope["low_freq_factor"] = scaling.low_freq_factor;
    rope["high_freq_factor"] = scaling.high_freq_factor;
  }
  if (scaling.type == "yarn") {
    rope["beta_fast"] = scaling.beta_fast;
    rope["beta_slow"] = scaling.beta_slow;
    rope["attention_factor"] = scaling.attention_factor;
    rope["truncate"] = scaling.truncate;
  }
  if (scaling.type == "longrope") {
    rope["short_factor"] = scaling.short_factor;
    rope["long_factor"] = scaling.long_factor;
    rope["attention_factor"] = scaling.attention_factor;
  }
  if (scaling.type == "llama3" || scaling.type == "yarn" || scaling.type == "longrope")
    rope["original_max_position_embeddings"] = scaling.original_max_positions;
  json["rope_scaling"] = scaling.type == "default" ? ordered_json(nullptr) : rope;
  json["rope_theta"] = config.rope_theta;
  rope["rope_theta"] = config.rope_theta;
  json["rope_parameters"] = rope;
}

void write_llama_like(const ModelConfig& config, ordered_json& json) {
  json["hidden_size"] = config.hidden_size;
  json["intermediate_size"] = config.intermediate_size;
  json["num_hidden_layers"] = config.num_layers;
  json["num_attention_heads"] = config.num_heads;
  json["num_key_value_heads"] = config.num_kv_heads;
  json["head_dim"] = config.head_dim;
  json["max_position_embeddings"] = config.max_positions;
  json["rms_norm_eps"] = config.norm_eps;
  json["hidden_act"] = config.activation == "gelu_new" ? "gelu_pytorch_tanh" : config.activation;
  if (config.model_type != "qwen2") json["attention_bias"] = config.attention_bias;
  if (config.model_type == "llama") json["mlp_bias"] = config.mlp_bias;
  if (config.model_type == "qwen2" || config.model_type == "qwen3") {
    json.erase("layer_types");
    json["use_sliding_window"] = config.sliding_window > 0;
  }
  if (config.sliding_window > 0) write_window_layers(config, json);
  if (config.model_type != "llama")
    json["sliding_window"] =
        config.sliding_window > 0 ? ordered_json(config.sliding_window) : ordered_json(nullptr);
  write_rope(config, json);
}

void write_gpt2(const ModelConfig& config, ordered_json& json) {
  json["n_embd"] = config.hidden_size;
  json["n_layer"] = config.num_layers;
  json["n_head"] = config.num_heads;
  json["n_inner"] = config.intermediate_size;
  json["n_positions"] = config.max_positions;
  json["layer_norm_epsilon"] = config.norm_eps;
  json["activation_function"] = config.activation;
}

}  // namespace

std::string ModelConfig::to_json() const {
  auto json = source_json.empty()
                  ? ordered_json::object()
                  : ordered_json::parse(source_json, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) json = ordered_json::object();
  json["architectures"] = {architecture(*this)};
  json["model_type"] = model_type;
  json["vocab_size"] = vocab_size;
  if (model_type == "gpt2")
    write_gpt2(*this, json);
  else
    write_llama_like(*this, json);
  json["tie_word_embeddings"] = tie_embeddings;
  const auto optional_id = [](const std::optional<int64_t>& id) {
    return id ? ordered_json(*id) : ordered_json(nullptr);
  };
  json["bos_token_id"] = optional_id(bos_token_id);
  if (eos_token_ids.empty())
    json["eos_token_id"] = nullptr;
  else if (eos_token_ids.size() == 1)
    json["eos_token_id"] = eos_token_ids.front();
  else
    json["eos_token_id"] = eos_token_ids;
  json["pad_token_id"] = optional_id(pad_token_id);
  for (const char* key : {"num_labels", "id2label", "label2id"}) json.erase(key);
  if (num_labels > 0) {
    json["num_labels"] = num_labels;
    json["id2label"] = ordered_json::object();
    json["label2id"] = ordered_json::object();
    for (int64_t i = 0; i < num_labels; ++i) {
      const auto label = "LABEL_" + std::to_string(i);
      json["id2label"][std::to_string(i)] = label;
      json["label2id"][label] = i;
    }
  }
  return json.dump(2) + "\n";
}

}  // namespace meed
