#include "libpolicy/models/model_config.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "libpolicy/core/error.h"

namespace meed {
namespace {

using nlohmann::ordered_json;

constexpr int64_t kMaxDimension = int64_t{1}
                                  << 24;  // more than any model has; keeps products in range

// Reads keys of config.json; a missing or misfit one is a DataError that names it.
class Reader {
 public:
  Reader(const ordered_json& json, const std::string& where) : json_(json), where_(where) {}

  [[noreturn]] void fail(const std::string& key, const std::string& problem) const {
    throw DataError(where_ + ": " + key + ": " + problem);
  }
  bool has(const std::string& key) const { return json_.contains(key) && !json_[key].is_null(); }
  int64_t size(const std::string& key, std::optional<int64_t> fallback = {}) const {
    if (!has(key)) {
      if (fallback) return *fallback;
      fail(key, "is missing");
    }
    const auto& value = json_[key];
    if (!value.is_number_integer()) fail(key, "expected a positive integer, got " + value.dump());
    const auto number = value.get<int64_t>();
    if (number <= 0 || number > kMaxDimension)
      fail(key, "expected a positive integer, got " + value.dump());
    return number;
  }
  double number(const std::string& key, double fallback) const {
    if (!has(key)) return fallback;
    if (!json_[key].is_number()) fail(key, "expected a number, got " + json_[key].dump());
    const auto value = json_[key].get<double>();
    if (!std::isfinite(value)) fail(key, "must be finite");
    return value;
  }
  bool flag(const std::string& key, bool fallback) const {
    if (!has(key)) return fallback;
    if (!json_[key].is_boolean()) fail(key, "expected true or false, got " + json_[key].dump());
    return json_[key].get<bool>();
  }
  std::string text(const std::string& key, const std::string& fallback) const {
    if (!has(key)) return fallback;
    if (!json_[key].is_string()) fail(key, "expected a string, got " + json_[key].dump());
    return json_[key].get<std::string>();
  }
  std::optional<int64_t> id(const std::string& key) const {
    if (!has(key)) return {};
    if (json_[key].is_array()) return {};
    if (!json_[key].is_number_integer()) fail(key, "expected a token id, got " + json_[key].dump());
    return json_[key].get<int64_t>();
  }
  std::vector<int64_t> ids(const std::string& key) const {
    if (!has(key)) return {};
    std::vector<int64_t> found;
    const auto add = [&](const ordered_json& value) {
      if (!value.is_number_integer()) fail(key, "expected token ids, got " + json_[key].dump());
      found.push_back(value.get<int64_t>());
    };
    if (json_[key].is_array())
      for (const auto& value : json_[key]) add(value);
    else
      add(json_[key]);
    return found;
  }
  Reader section(const std::string& key) const {
    if (!json_[key].is_object()) fail(key, "expected an object, got " + json_[key].dump());
    return {json_[key], where_ + ": " + key};
  }
  const ordered_json& json() const { return json_; }

 private:
  const ordered_json& json_;
  std::string where_;
};

// The length for which the frequencies were trained.
int64_t original_positions(const Reader& rope, int64_t fallback) {
  return rope.size("original_max_position_embeddings", fallback);
}

// Without an attention_factor of its own: 0.1 m ln(factor) + 1, for m = mscale over that for
// mscale_all_dim where both are given, else for 1.
double yarn_attention_factor(const Reader& rope, double factor) {
  if (rope.has("attention_factor")) return rope.number("attention_factor", 1.0);
  const auto scale = [&](double m) { return factor <= 1 ? 1.0 : 0.1 * m * std::log(factor) + 1.0; };
  const double mscale = rope.number("mscale", 0.0), all = rope.number("mscale_all_dim", 0.0);
  return mscale != 0 && all != 0 ? scale(mscale) / scale(all) : scale(1.0);
}

void read_yarn(const Reader& rope, int64_t max_positions, RopeScaling& scaling) {
  scaling.original_max_positions = original_positions(rope, max_positions);
  scaling.beta_fast = rope.number("beta_fast", 32.0);
  scaling.beta_slow = rope.number("beta_slow", 1.0);
  if (scaling.beta_slow <= 0 || scaling.beta_fast < scaling.beta_slow)
    rope.fail("beta_fast", "must be at least beta_slow, both positive");
  scaling.attention_factor = yarn_attention_factor(rope, scaling.factor);
  if (!(scaling.attention_factor > 0)) rope.fail("attention_factor", "must be positive");
  scaling.truncate = rope.flag("truncate", true);
}

std::vector<double> read_factors(const Reader& rope, const std::string& key, int64_t count) {
  if (!rope.has(key)) rope.fail(key, "is missing");
  std::vector<double> factors;
  const auto& list = rope.json()[key];
  if (list.is_array())
    for (const auto& value : list)
      if (value.is_number() && value.get<double>() > 0) factors.push_back(value.get<double>());
  if (!list.is_array() || static_cast<int64_t>(factors.size()) != count ||
      list.size() != factors.size())
    rope.fail(key, "expected " + std::to_string(count) + " positive numbers, half of head_dim");
  return factors;
}

// Without an attention_factor of its own: sqrt(1 + ln(factor) / ln(original length)).
void read_longrope(const Reader& rope, int64_t original, const ModelConfig& config,
                   RopeScaling& scaling) {
  scaling.original_max_positions = original_positions(rope, original);
  scaling.short_factor = read_factors(rope, "short_factor", config.head_dim / 2);
  scaling.long_factor = read_factors(rope, "long_factor", config.head_dim / 2);
  const auto length = static_cast<double>(scaling.original_max_positions);
  if (!rope.has("factor")) scaling.factor = static_cast<double>(config.max_positions) / length;
  if (rope.has("attention_factor"))
    scaling.attention_factor = rope.number("attention_factor", 1.0);
  else if (scaling.factor > 1 && length > 1)
    scaling.attention_factor = std::sqrt(1.0 + std::log(scaling.factor) / std::log(length));
  if (!(scaling.attention_factor > 0)) rope.fail("attention_factor", "must be positive");
}

void read_llama3(const Reader& rope, int64_t max_positions, RopeScaling& scaling) {
  scaling.low_freq_factor = rope.number("low_freq_factor", 0.0);
  scaling.high_freq_factor = rope.number("high_freq_factor", 0.0);
  if (scaling.low_freq_factor <= 0 || scaling.high_freq_factor <= scaling.low_freq_factor)
    rope.fail("high_freq_factor", "must be greater than low_freq_factor, both positive");
  scaling.original_max_positions = original_positions(rope, max_positions);
}

void read_rope_section(const Reader& rope, int64_t original, ModelConfig& config) {
  config.rope_theta = rope.number("rope_theta", config.rope_theta);
  for (const auto& [key, value] : rope.json().items())
    if (value.is_object()) rope.fail(key, "rotary parameters by kind of layer are not supported");
  const std::string type = rope.text("rope_type", rope.text("type", "default"));
  if (type == "default") return;
  if (type != "linear" && type != "llama3" && type != "yarn" && type != "dynamic" &&
      type != "longrope")
    rope.fail(
        rope.has("rope_type") ? "rope_type" : "type",
        "\"" + type +
            "\" is not supported (supported: default, linear, dynamic, yarn, longrope, llama3)");
  auto& scaling = config.rope_scaling;
  scaling.type = type;
  scaling.factor = rope.number("factor", type == "longrope" ? 1.0 : 0.0);
  if (scaling.factor < 1.0) rope.fail("factor", "expected a number of at least 1");
  if (type == "yarn") read_yarn(rope, config.max_positions, scaling);
  if (type == "longrope") read_longrope(rope, original, config, scaling);
  if (type == "llama3") read_llama3(rope, config.max_positions, scaling);
}

void read_rope(const Reader& reader, ModelConfig& config) {
  config.rope_theta = reader.number("rope_theta", 10000.0);
  if (reader.has("partial_rotary_factor") && reader.number("partial_rotary_factor", 1.0) != 1.0)
    reader.fail("partial_rotary_factor", "only 1.0 is supported");
  // longrope's models have the original length outside of the section.
  const int64_t original = reader.size("original_max_position_embeddings", config.max_positions);
  for (const char* key : {"rope_scaling", "rope_parameters"})
    if (reader.has(key)) read_rope_section(reader.section(key), original, config);
  if (!(config.rope_theta > 0)) reader.fail("rope_theta", "must be positive");
}

// Which layers have a window: layer_types says it layer by layer; without it a layer of Qwen2 and
// Qwen3 has one from index max_window_layers on, and all of Mistral's have.
std::vector<bool> read_window_layers(const Reader& reader, const ModelConfig& config) {
  std::vector<bool> layers(config.num_layers, true);
  if (!reader.has("layer_types")) {
    if (config.model_type == "mistral") return layers;
    const double first = reader.number("max_window_layers", 28);
    for (int64_t i = 0; i < config.num_layers; ++i) layers[i] = static_cast<double>(i) >= first;
    return layers;
  }
  const auto& types = reader.json()["layer_types"];
  if (!types.is_array() || static_cast<int64_t>(types.size()) != config.num_layers)
    reader.fail("layer_types", "expected one entry for each of the " +
                                   std::to_string(config.num_layers) + " layers");
  for (size_t i = 0; i < types.size(); ++i) {
    if (types[i] != "full_attention" && types[i] != "sliding_attention")
      reader.fail("layer_types", types[i].dump() +
                                     " is not supported (supported: full_attention, "
                                     "sliding_attention)");
    layers[i] = types[i] == "sliding_attention";
  }
  return layers;
}

void read_sliding_window(const Reader& reader, ModelConfig& config) {
  const bool qwen = config.model_type == "qwen2" || config.model_type == "qwen3";
  if (qwen && !reader.flag("use_sliding_window", false)) return;
  if (config.model_type == "llama" || !reader.has("sliding_window")) return;
  const auto layers = read_window_layers(reader, config);
  const auto count = std::count(layers.begin(), layers.end(), true);
  if (count == 0) return;
  config.sliding_window = reader.size("sliding_window");
  if (count < config.num_layers) config.window_layers = layers;
}

std::string read_activation(const Reader& reader, const std::string& key,
                            const std::string& fallback) {
  const std::string name = reader.text(key, fallback);
  if (name == "silu" || name == "swish") return "silu";
  if (name == "gelu") return "gelu";
  if (name == "gelu_new" || name == "gelu_pytorch_tanh") return "gelu_new";
  reader.fail(key, "activation \"" + name +
                       "\" is not supported (supported: silu, gelu, gelu_new, gelu_pytorch_tanh)");
}

void read_llama_like(const Reader& reader, ModelConfig& config) {
  config.hidden_size = reader.size("hidden_size");
  config.intermediate_size = reader.size("intermediate_size");
  config.num_layers = reader.size("num_hidden_layers");
  config.num_heads = reader.size("num_attention_heads");
  config.num_kv_heads =
      reader.size("num_key_value_heads", config.model_type == "mistral" ? 8 : config.num_heads);
  config.head_dim =
      reader.size("head_dim", config.model_type == "qwen3"
                                  ? 128
                                  : std::max<int64_t>(1, config.hidden_size / config.num_heads));
  config.max_positions = reader.size("max_position_embeddings", 2048);
  config.norm_eps = reader.number("rms_norm_eps", 1e-6);
  config.activation = read_activation(reader, "hidden_act", "silu");
  config.tie_embeddings = reader.flag("tie_word_embeddings", false);
  const bool bias = reader.flag("attention_bias", false);
  config.attention_bias = config.model_type == "qwen2" || bias;
  config.attention_out_bias = config.model_type != "qwen2" && bias;
  config.mlp_bias = config.model_type == "llama" && reader.flag("mlp_bias", false);
  config.qk_norm = config.model_type == "qwen3";
  read_rope(reader, config);
  read_sliding_window(reader, config);
}

void read_gpt2(const Reader& reader, ModelConfig& config) {
  config.hidden_size = reader.size("n_embd", 768);
  config.num_layers = reader.size("n_layer", 12);
  config.num_heads = reader.size("n_head", 12);
  config.num_kv_heads = config.num_heads;
  if (config.hidden_size % config.num_heads != 0) reader.fail("n_head", "does not divide n_embd");
  config.head_dim = config.hidden_size / config.num_heads;
  config.intermediate_size = reader.size("n_inner", 4 * config.hidden_size);
  config.max_positions = reader.size("n_positions", 1024);
  config.norm_eps = reader.number("layer_norm_epsilon", 1e-5);
  config.activation = read_activation(reader, "activation_function", "gelu_new");
  config.tie_embeddings = reader.flag("tie_word_embeddings", true);
  config.attention_bias = config.attention_out_bias = config.mlp_bias = true;
  config.layer_norm = true;
  config.gated_mlp = false;
  config.learned_positions = true;
  if (!reader.flag("scale_attn_weights", true))
    reader.fail("scale_attn_weights", "only true is supported");
  if (reader.flag("scale_attn_by_inverse_layer_idx", false))
    reader.fail("scale_attn_by_inverse_layer_idx", "only false is supported");
  if (reader.flag("add_cross_attention", false))
    reader.fail("add_cross_attention", "only false is supported");
}

void refuse_unsupported(const Reader& reader) {
  for (const char* key : {"num_local_experts", "num_experts", "n_routed_experts"})
    if (reader.has(key) && !(reader.json()[key].is_number() && reader.json()[key] == 0))
      reader.fail(key, "mixture-of-experts models are not supported");
  if (reader.has("quantization_config"))
    reader.fail(
        "quantization_config",
        "quantised Hugging Face folders are not supported; use the original weights or a GGUF");
}

void check_heads(const Reader& reader, const ModelConfig& config) {
  if (config.num_heads % config.num_kv_heads != 0)
    reader.fail("num_key_value_heads", std::to_string(config.num_kv_heads) +
                                           " does not divide num_attention_heads " +
                                           std::to_string(config.num_heads));
  if (!config.learned_positions && config.head_dim % 2 != 0)
    reader.fail("head_dim",
                "must be even for rotary positions, got " + std::to_string(config.head_dim));
}

int64_t read_num_labels(const Reader& reader) {
  const auto& json = reader.json();
  bool classifier = false;
  if (reader.has("architectures") && json["architectures"].is_array())
    for (const auto& name : json["architectures"])
      classifier |= name.is_string() &&
                    name.get<std::string>().find("ForSequenceClassification") != std::string::npos;
  if (!classifier) return 0;
  if (reader.has("num_labels")) return reader.size("num_labels");
  if (reader.has("id2label") && json["id2label"].is_object() && !json["id2label"].empty())
    return static_cast<int64_t>(json["id2label"].size());
  return 2;  // transformers' default
}

}  // namespace

ModelConfig ModelConfig::from_json(const std::string& json_text, const std::string& where) {
  const auto json = ordered_json::parse(json_text, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) throw DataError(where + ": not a JSON object");
  const Reader reader(json, where);
  ModelConfig config;
  config.source_json = json_text;
  config.model_type = reader.text("model_type", "");
  refuse_unsupported(reader);
  config.vocab_size = 0;
  if (config.model_type == "gpt2")
    read_gpt2(reader, config);
  else if (config.model_type == "llama" || config.model_type == "mistral" ||
           config.model_type == "qwen2" || config.model_type == "qwen3")
    read_llama_like(reader, config);
  else
    reader.fail("model_type",
                "\"" + config.model_type +
                    "\" is not supported (supported: llama, mistral, qwen2, qwen3, gpt2)");
  config.vocab_size = reader.size("vocab_size");
  config.eos_token_ids = reader.ids("eos_token_id");
  config.bos_token_id = reader.id("bos_token_id");
  config.pad_token_id = reader.id("pad_token_id");
  config.num_labels = read_num_labels(reader);
  check_heads(reader, config);
  return config;
}

}  // namespace meed
