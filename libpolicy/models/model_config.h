#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace meed {

/// How the rotations' frequencies are stretched for longer texts (transformers: rope_type).
struct RopeScaling {
  std::string type = "default";  ///< "default", "linear", "dynamic", "yarn", "longrope", "llama3"
  double factor = 1.0;
  double low_freq_factor = 1.0, high_freq_factor = 4.0;  ///< llama3
  double beta_fast = 32.0, beta_slow = 1.0;              ///< yarn
  double attention_factor = 1.0;  ///< yarn, longrope: scales cosines and sines
  bool truncate = true;           ///< yarn: round the ends of the ramp to whole dimensions
  std::vector<double> short_factor, long_factor;  ///< longrope: by dimension, [head_dim / 2]
  int64_t original_max_positions = 8192;
};

/// What config.json (or a GGUF header) says of a decoder.
struct ModelConfig {
  std::string model_type;  ///< "llama", "mistral", "qwen2", "qwen3", "gpt2"
  int64_t vocab_size = 0, hidden_size = 0, intermediate_size = 0;
  int64_t num_layers = 0, num_heads = 0, num_kv_heads = 0, head_dim = 0;
  int64_t max_positions = 0;
  int64_t sliding_window = 0;       ///< keys that a query sees, itself included; 0: all
  std::vector<bool> window_layers;  ///< which layers have the window; empty: all of them
  double norm_eps = 1e-5;
  double rope_theta = 10000.0;
  RopeScaling rope_scaling;
  bool tie_embeddings = false;
  bool attention_bias = false;  ///< biases on q, k, v (Qwen2) and, where attention_out_bias, on o
  bool attention_out_bias = false;
  bool mlp_bias = false;
  bool qk_norm = false;                ///< Qwen3
  bool layer_norm = false;             ///< LayerNorm instead of RMSNorm (GPT-2)
  bool gated_mlp = true;               ///< gate/up/down against up/down
  std::string activation = "silu";     ///< "silu", "gelu", "gelu_new"
  bool learned_positions = false;      ///< GPT-2
  std::vector<int64_t> eos_token_ids;  ///< config.json and generation_config.json together
  std::optional<int64_t> bos_token_id, pad_token_id;
  int64_t num_labels = 0;   ///< > 0 for ...ForSequenceClassification
  std::string source_json;  ///< config.json as read; written back with what changed

  /// The window of a layer; 0: full attention.
  int64_t window_of(int64_t layer) const {
    return window_layers.empty() || window_layers[static_cast<size_t>(layer)] ? sliding_window : 0;
  }

  /// Throws DataError that names the key and what is supported.
  static ModelConfig from_json(const std::string& json, const std::string& where);
  std::string to_json() const;
};

}  // namespace meed
