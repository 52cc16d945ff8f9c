#include "libpolicy/checkpoint/model_files.h"

#include <ATen/ATen.h>

#include <nlohmann/json.hpp>

#include "libpolicy/checkpoint/gguf.h"
#include "libpolicy/checkpoint/gguf_rope.h"
#include "libpolicy/checkpoint/safetensors.h"
#include "libpolicy/core/error.h"

namespace meed {
namespace {

using Json = nlohmann::ordered_json;

at::Tensor converted(const at::Tensor& tensor, at::ScalarType dtype) {
  return tensor.is_floating_point() ? tensor.to(dtype) : tensor;
}

/// A Hugging Face folder.
class FolderFiles final : public ModelFiles {
 public:
  explicit FolderFiles(const std::filesystem::path& folder) : folder_(folder) {
    const auto config = folder / "config.json";
    if (!std::filesystem::exists(config)) throw DataError(folder.string() + ": has no config.json; expected a Hugging Face model folder or a .gguf file");
    config_ = read_file(config);
    if (std::filesystem::exists(folder / "generation_config.json")) generation_ = read_file(folder / "generation_config.json");
    if (std::filesystem::exists(folder / "model.safetensors"))
      add_file("model.safetensors");
    else if (std::filesystem::exists(folder / "model.safetensors.index.json"))
      add_shards();
    else
      throw DataError(folder.string() + ": has neither model.safetensors nor model.safetensors.index.json" +
                      (std::filesystem::exists(folder / "pytorch_model.bin") ? "; convert pytorch_model.bin to safetensors first" : ""));
  }

  const std::string& config_json() const override { return config_; }
  const std::string& generation_config_json() const override { return generation_; }
  std::vector<std::string> names() const override { return names_; }
  bool has(const std::string& name) const override { return owners_.count(name) > 0; }
  at::Tensor load(const std::string& name, at::ScalarType dtype) const override {
    const auto owner = owners_.find(name);
    if (owner == owners_.end()) throw DataError(folder_.string() + ": tensor \"" + name + "\" is missing");
    return converted(owner->second->load(name), dtype);
  }
  std::string where() const override { return folder_.string() + ": "; }

 private:
  const SafetensorsFile& add_file(const std::string& name) {
    files_.push_back(std::make_unique<SafetensorsFile>(folder_ / name));
    for (const auto& tensor : files_.back()->names()) {
      if (!owners_.emplace(tensor, files_.back().get()).second)
        throw DataError(folder_.string() + ": tensor \"" + tensor + "\" stands in two shards");
      names_.push_back(tensor);
    }
    return *files_.back();
  }

  void add_shards() {
    const auto path = folder_ / "model.safetensors.index.json";
    const auto index = Json::parse(read_file(path), nullptr, /*allow_exceptions=*/false);
    if (!index.is_object() || !index.contains("weight_map") || !index["weight_map"].is_object())
      throw DataError(path.string() + ": not a shard index (a JSON object with \"weight_map\")");
    std::map<std::string, bool> opened;
    for (const auto& [tensor, shard] : index["weight_map"].items()) {
      if (!shard.is_string()) throw DataError(path.string() + ": weight_map." + tensor + " is not a file name");
      const auto name = shard.get<std::string>();
      if (name.empty() || std::filesystem::path(name).filename() != name)
        throw DataError(path.string() + ": weight_map." + tensor + " names \"" + name + "\", not a file of this folder");
      if (opened.emplace(name, true).second) {
        if (!std::filesystem::exists(folder_ / name)) throw DataError(path.string() + ": shard " + name + " is missing; fetch it");
        add_file(name);
      }
    }
    for (const auto& [tensor, shard] : index["weight_map"].items())
      if (!has(tensor)) throw DataError(path.string() + ": tensor \"" + tensor + "\" is not in " + shard.get<std::string>());
  }

  std::filesystem::path folder_;
  std::string config_, generation_;
  std::vector<std::unique_ptr<SafetensorsFile>> files_;
  std::map<std::string, const SafetensorsFile*> owners_;
  std::vector<std::string> names_;
};

/// A .gguf file: its keys become a config.json, its names Hugging Face's.
class GgufModelFiles final : public ModelFiles {
 public:
  explicit GgufModelFiles(const std::filesystem::path& path) : file_(path) {
    arch_ = file_.string("general.architecture").value_or("");
    if (arch_ != "llama" && arch_ != "qwen2" && arch_ != "qwen3" && arch_ != "gpt2" && arch_ != "bert")
      throw DataError(path.string() + ": architecture \"" + arch_ + "\" is not supported (llama, qwen2, qwen3, gpt2, bert)");
    config_ = make_config().dump(2);
    add_names();
  }

  const std::string& config_json() const override { return config_; }
  const std::string& generation_config_json() const override { return generation_; }
  std::vector<std::string> names() const override { return names_; }
  bool has(const std::string& name) const override { return sources_.count(name) > 0; }
  std::string where() const override { return file_.path() + ": "; }

  at::Tensor load(const std::string& name, at::ScalarType dtype) const override {
    const auto source = sources_.find(name);
    if (source == sources_.end()) throw DataError(file_.path() + ": tensor \"" + name + "\" is missing");
    at::Tensor tensor = file_.load(source->second);
    const bool is_query = name.find("q_proj") != std::string::npos;
    if (arch_ == "llama" && (is_query || name.find("k_proj") != std::string::npos)) tensor = unpermuted(tensor, is_query ? heads_ : kv_heads_);
    // GPT-2's Conv1D keeps [in, out]; the converter stores [out, in].
    if (arch_ == "gpt2" && name.ends_with(".weight") && name.find("c_") != std::string::npos) tensor = tensor.t().contiguous();
    return converted(tensor, dtype);
  }

 private:
  int64_t need(const std::string& key) const {
    const auto value = file_.integer(arch_ + "." + key);
    constexpr int64_t kAbsurd = 100'000'000;
    if (!value || *value <= 0 || *value > kAbsurd) throw DataError(file_.path() + ": key \"" + arch_ + "." + key + "\" is missing or absurd");
    return *value;
  }

  Json make_config() {
    heads_ = need("attention.head_count");
    kv_heads_ = file_.integer(arch_ + ".attention.head_count_kv").value_or(heads_);
    const auto embedding = file_.shape("token_embd.weight");
    if (embedding.size() != 2) throw DataError(file_.path() + ": tensor \"token_embd.weight\" is not a matrix");
    Json config = arch_ == "gpt2" ? gpt2_config() : arch_ == "bert" ? bert_config() : llama_config();
    config["vocab_size"] = embedding[0];
    config["tie_word_embeddings"] = !file_.has_tensor("output.weight");
    for (const auto& [key, gguf] : {std::pair{"bos_token_id", "tokenizer.ggml.bos_token_id"}, {"eos_token_id", "tokenizer.ggml.eos_token_id"}, {"pad_token_id", "tokenizer.ggml.padding_token_id"}})
      if (const auto id = file_.integer(gguf)) config[key] = *id;
    // The end of a turn ends a text as well.
    const auto end = file_.integer("tokenizer.ggml.eos_token_id"), turn = file_.integer("tokenizer.ggml.eot_token_id");
    if (end && turn && *end != *turn) config["eos_token_id"] = {*end, *turn};
    return config;
  }

  Json gpt2_config() const {
    return {{"model_type", "gpt2"}, {"architectures", {"GPT2LMHeadModel"}}, {"n_embd", need("embedding_length")}, {"n_head", heads_},
            {"n_layer", need("block_count")}, {"n_positions", need("context_length")}, {"n_inner", need("feed_forward_length")},
            {"activation_function", "gelu_new"}, {"layer_norm_epsilon", file_.number(arch_ + ".attention.layer_norm_epsilon").value_or(1e-5)}};
  }

  Json bert_config() const {
    return {{"model_type", "bert"}, {"architectures", {"BertModel"}}, {"hidden_size", need("embedding_length")},
            {"intermediate_size", need("feed_forward_length")}, {"num_hidden_layers", need("block_count")}, {"num_attention_heads", heads_},
            {"max_position_embeddings", need("context_length")}, {"type_vocab_size", file_.shape("token_types.weight")[0]}, {"hidden_act", "gelu"},
            {"layer_norm_eps", file_.number(arch_ + ".attention.layer_norm_epsilon").value_or(1e-12)}};
  }

  Json llama_config() const {
    const std::string name = arch_ == "llama" ? "Llama" : arch_ == "qwen2" ? "Qwen2" : "Qwen3";
    const int64_t hidden = need("embedding_length"), head_dim = file_.integer(arch_ + ".attention.key_length").value_or(hidden / heads_);
    const double theta = file_.number(arch_ + ".rope.freq_base").value_or(10000.0);
    Json config = {{"model_type", arch_}, {"architectures", {name + "ForCausalLM"}}, {"hidden_size", hidden},
                   {"intermediate_size", need("feed_forward_length")}, {"num_hidden_layers", need("block_count")},
                   {"num_attention_heads", heads_}, {"num_key_value_heads", kv_heads_}, {"head_dim", head_dim},
                   {"max_position_embeddings", need("context_length")}, {"hidden_act", "silu"},
                   {"rms_norm_eps", file_.number(arch_ + ".attention.layer_norm_rms_epsilon").value_or(1e-6)}, {"rope_theta", theta}};
    if (const auto scaling = gguf_rope_scaling(file_, arch_, theta, head_dim); !scaling.empty()) config["rope_scaling"] = Json::parse(scaling);
    return config;
  }

  /// Undoes the converter's reordering of the rotary halves into pairs.
  static at::Tensor unpermuted(const at::Tensor& tensor, int64_t heads) {
    const int64_t rows = tensor.size(0);
    if (heads <= 0 || rows % (heads * 2) != 0) throw DataError("GGUF: a q or k projection has " + std::to_string(rows) + " rows, not a multiple of its heads");
    auto sizes = tensor.sizes().vec();
    std::vector<int64_t> split = {heads, rows / heads / 2, 2};
    split.insert(split.end(), sizes.begin() + 1, sizes.end());
    return tensor.reshape(split).transpose(1, 2).reshape(sizes).contiguous();
  }

  void add_name(const std::string& theirs, const std::string& ours) {
    if (!file_.has_tensor(theirs)) return;
    sources_[ours] = theirs;
    names_.push_back(ours);
  }

  void add_names() {
    using Names = std::vector<std::pair<std::string, std::string>>;
    static const Names kLlama = {{"attn_norm", "input_layernorm"}, {"ffn_norm", "post_attention_layernorm"}, {"attn_q", "self_attn.q_proj"},
                                 {"attn_k", "self_attn.k_proj"}, {"attn_v", "self_attn.v_proj"}, {"attn_output", "self_attn.o_proj"},
                                 {"attn_q_norm", "self_attn.q_norm"}, {"attn_k_norm", "self_attn.k_norm"}, {"ffn_gate", "mlp.gate_proj"},
                                 {"ffn_up", "mlp.up_proj"}, {"ffn_down", "mlp.down_proj"}};
    static const Names kGpt2 = {{"attn_norm", "ln_1"}, {"ffn_norm", "ln_2"}, {"attn_qkv", "attn.c_attn"}, {"attn_output", "attn.c_proj"},
                                {"ffn_up", "mlp.c_fc"}, {"ffn_down", "mlp.c_proj"}};
    static const Names kBert = {{"attn_q", "attention.self.query"}, {"attn_k", "attention.self.key"}, {"attn_v", "attention.self.value"},
                                {"attn_output", "attention.output.dense"}, {"attn_output_norm", "attention.output.LayerNorm"},
                                {"ffn_up", "intermediate.dense"}, {"ffn_down", "output.dense"}, {"layer_output_norm", "output.LayerNorm"}};
    static const Names kLlamaRest = {{"token_embd", "model.embed_tokens"}, {"output_norm", "model.norm"}, {"output", "lm_head"}};
    static const Names kGpt2Rest = {{"token_embd", "transformer.wte"}, {"position_embd", "transformer.wpe"}, {"output_norm", "transformer.ln_f"}, {"output", "lm_head"}};
    static const Names kBertRest = {{"token_embd", "embeddings.word_embeddings"}, {"position_embd", "embeddings.position_embeddings"},
                                    {"token_types", "embeddings.token_type_embeddings"}, {"token_embd_norm", "embeddings.LayerNorm"}};
    const bool gpt2 = arch_ == "gpt2", bert = arch_ == "bert";
    const std::string layers = gpt2 ? "transformer.h." : bert ? "encoder.layer." : "model.layers.";
    for (const char* part : {".weight", ".bias"}) {
      for (const auto& [theirs, ours] : gpt2 ? kGpt2Rest : bert ? kBertRest : kLlamaRest) add_name(theirs + part, ours + part);
      for (int64_t layer = 0; layer < need("block_count"); ++layer)
        for (const auto& [theirs, ours] : gpt2 ? kGpt2 : bert ? kBert : kLlama)
          add_name("blk." + std::to_string(layer) + "." + theirs + part, layers + std::to_string(layer) + "." + ours + part);
    }
  }

  GgufFile file_;
  std::string arch_, config_, generation_;
  int64_t heads_ = 0, kv_heads_ = 0;
  std::map<std::string, std::string> sources_;
  std::vector<std::string> names_;
};

}  // namespace

std::unique_ptr<ModelFiles> ModelFiles::open(const std::filesystem::path& path) {
  if (std::filesystem::is_directory(path)) return std::make_unique<FolderFiles>(path);
  if (!std::filesystem::exists(path)) throw DataError(path.string() + ": no such file or folder; expected a Hugging Face folder or a .gguf file");
  return std::make_unique<GgufModelFiles>(path);
}

std::string ModelFiles::stored_name(const std::string& name) const {
  if (has(name)) return name;
  for (const std::string prefix : {"model.", "transformer."})
    if (name.starts_with(prefix) && has(name.substr(prefix.size())))
      return name.substr(prefix.size());
  return name;
}

}  // namespace meed
