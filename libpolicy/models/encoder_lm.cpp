#include "libpolicy/models/encoder_lm.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/custom_function.h>

#include <array>
#include <nlohmann/json.hpp>

#include "libpolicy/checkpoint/model_files.h"
#include "libpolicy/core/error.h"
#include "libpolicy/models/attention.h"

namespace meed {
namespace {

/// Attention with its own backward in the graph.
struct AttentionFunction : public torch::autograd::Function<AttentionFunction> {
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& qkv_NC,
                            const PackedBatch* batch, const AttentionShape* shape) {
    const auto lse_NH = at::empty({qkv_NC.size(0), shape->num_heads}, at::kFloat);
    const auto out_ND = attention_forward(qkv_NC, *batch, *shape, lse_NH);
    context->save_for_backward({qkv_NC, lse_NH});
    context->saved_data["out"] = out_ND.detach();
    context->saved_data["run"] =
        c10::IValue::make_capsule(c10::make_intrusive<Capsule>(Capsule{*batch, *shape}));
    return out_ND;
  }
  static torch::autograd::tensor_list backward(torch::autograd::AutogradContext* context,
                                               torch::autograd::tensor_list gradients) {
    at::NoGradGuard no_grad;
    const auto capsule =
        c10::static_intrusive_pointer_cast<Capsule>(context->saved_data["run"].toCapsule());
    const auto saved = context->get_saved_variables();
    return {attention_backward(saved[0], context->saved_data["out"].toTensor(), saved[1],
                               gradients[0].contiguous(), capsule->batch, capsule->shape),
            at::Tensor(), at::Tensor()};
  }
  struct Capsule : torch::CustomClassHolder {
    Capsule(PackedBatch b, AttentionShape s) : batch(std::move(b)), shape(s) {}
    PackedBatch batch;
    AttentionShape shape;
  };
};

struct EncoderLayer {
  std::array<at::Tensor, 3> projections, projection_biases;  // query, key, value
  at::Tensor qkv, qkv_bias;                                  // stacked; inference only
  at::Tensor out, out_bias, attention_norm, attention_norm_bias;
  at::Tensor up, up_bias, down, down_bias, output_norm, output_norm_bias;
};

class BertEncoder final : public EncoderLm {
 public:
  BertEncoder(const ModelFiles& files, bool trainable)
      : trainable_(trainable),
        config_(EncoderConfig::from_json(files.config_json(), files.where() + "config.json")),
        files_(files) {
    const auto& c = config_;
    words_ = add("embeddings.word_embeddings.weight", {c.vocab_size, c.hidden_size});
    positions_ = add("embeddings.position_embeddings.weight", {c.max_positions, c.hidden_size});
    types_ = add("embeddings.token_type_embeddings.weight", {c.type_vocab_size, c.hidden_size});
    norm_ = add("embeddings.LayerNorm.weight", {c.hidden_size});
    norm_bias_ = add("embeddings.LayerNorm.bias", {c.hidden_size});
    for (int64_t i = 0; i < c.num_layers; ++i)
      add_layer("encoder.layer." + std::to_string(i) + ".");
  }

  const EncoderConfig& config() const override { return config_; }
  ParameterStore& parameters() override { return parameters_; }

  at::Tensor hidden_states(const PackedBatch& batch, const at::Tensor& types_N) override {
    const at::AutoGradMode mode(trainable_ && at::GradMode::is_enabled());
    check_batch(batch);
    auto x_ND = words_.index_select(0, batch.ids_N) +
                positions_.index_select(0, batch.positions_N) +
                (types_N.defined() ? types_.index_select(0, types_N) : types_[0]);
    x_ND = normalise(x_ND, norm_, norm_bias_);
    const AttentionShape shape{.num_heads = config_.num_heads,
                               .num_kv_heads = config_.num_heads,
                               .head_dim = config_.hidden_size / config_.num_heads,
                               .causal = false};
    for (const auto& layer : layers_) {
      const auto qkv_NC = trainable_ ? at::linear(x_ND, at::cat(layer.projections),
                                                  at::cat(layer.projection_biases))
                                     : at::linear(x_ND, layer.qkv, layer.qkv_bias);
      const auto attended_ND = at::GradMode::is_enabled()
                                   ? AttentionFunction::apply(qkv_NC, &batch, &shape)
                                   : attention_forward(qkv_NC, batch, shape, {});
      x_ND = normalise(x_ND + at::linear(attended_ND, layer.out, layer.out_bias),
                       layer.attention_norm, layer.attention_norm_bias);
      const auto up = at::gelu(at::linear(x_ND, layer.up, layer.up_bias),
                               config_.activation == "gelu" ? "none" : "tanh");
      x_ND = normalise(x_ND + at::linear(up, layer.down, layer.down_bias), layer.output_norm,
                       layer.output_norm_bias);
    }
    return x_ND;
  }

 private:
  at::Tensor add(const std::string& name, at::IntArrayRef shape) {
    auto stored = name;
    if (!files_.has(stored) && files_.has("bert." + name)) stored = "bert." + name;
    const auto value = files_.load(stored, at::kFloat);
    if (value.sizes() != shape)
      throw DataError(files_.where() + stored + ": config.json asks for " + c10::str(shape) +
                      ", the file has " + c10::str(value.sizes()));
    value.set_requires_grad(trainable_);
    return parameters_.add(name, value);
  }

  void add_layer(const std::string& prefix) {
    const int64_t D = config_.hidden_size, F = config_.intermediate_size;
    EncoderLayer layer;
    const char* names[] = {"query", "key", "value"};
    for (size_t i = 0; i < 3; ++i) {
      const auto name = prefix + "attention.self." + names[i];
      layer.projections[i] = add(name + ".weight", {D, D});
      layer.projection_biases[i] = add(name + ".bias", {D});
    }
    if (!trainable_) {
      layer.qkv = at::cat(layer.projections);
      layer.qkv_bias = at::cat(layer.projection_biases);
    }
    const auto pair = [&](const std::string& name, at::IntArrayRef shape, at::Tensor& weight,
                          at::Tensor& bias) {
      weight = add(prefix + name + ".weight", shape);
      bias = add(prefix + name + ".bias", {shape[0]});
    };
    pair("attention.output.dense", {D, D}, layer.out, layer.out_bias);
    pair("attention.output.LayerNorm", {D}, layer.attention_norm, layer.attention_norm_bias);
    pair("intermediate.dense", {F, D}, layer.up, layer.up_bias);
    pair("output.dense", {D, F}, layer.down, layer.down_bias);
    pair("output.LayerNorm", {D}, layer.output_norm, layer.output_norm_bias);
    layers_.push_back(std::move(layer));
  }

  at::Tensor normalise(const at::Tensor& x_ND, const at::Tensor& weight,
                       const at::Tensor& bias) const {
    return at::layer_norm(x_ND, {config_.hidden_size}, weight, bias, config_.norm_eps);
  }

  void check_batch(const PackedBatch& batch) const {
    for (const int64_t prefix : batch.prefixes)
      MEED_CHECK(prefix < 0, "an encoder's segments have no prefixes");
    if (batch.ids_N.min().item<int64_t>() < 0 ||
        batch.ids_N.max().item<int64_t>() >= config_.vocab_size)
      throw DataError("a token id is outside the encoder's vocabulary of " +
                      std::to_string(config_.vocab_size) +
                      "; do the tokenizer and the model belong together?");
    if (batch.positions_N.max().item<int64_t>() >= config_.max_positions)
      throw DataError(
          "a segment of " + std::to_string(batch.positions_N.max().item<int64_t>() + 1) +
          " tokens exceeds the encoder's " + std::to_string(config_.max_positions) + " positions");
  }

  bool trainable_;
  EncoderConfig config_;
  const ModelFiles& files_;  // read in the constructor only
  ParameterStore parameters_;
  at::Tensor words_, positions_, types_, norm_, norm_bias_;
  std::vector<EncoderLayer> layers_;
};

}  // namespace

EncoderConfig EncoderConfig::from_json(const std::string& text, const std::string& where) {
  const auto json = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) throw DataError(where + ": not a JSON object");
  const auto fail = [&](const std::string& key, const std::string& problem) {
    throw DataError(where + ": " + key + ": " + problem);
  };
  const auto size = [&](const char* key) {
    constexpr int64_t kMaxDimension = int64_t{1} << 24;
    if (!json.contains(key)) fail(key, "is missing");
    if (!json[key].is_number_integer() || json[key].get<int64_t>() <= 0 ||
        json[key].get<int64_t>() > kMaxDimension)
      fail(key, "expected a positive integer, got " + json[key].dump());
    return json[key].get<int64_t>();
  };
  const auto string = [&](const char* key, const std::string& fallback) {
    if (!json.contains(key) || json[key].is_null()) return fallback;
    if (!json[key].is_string()) fail(key, "expected a string, got " + json[key].dump());
    return json[key].get<std::string>();
  };
  if (string("model_type", "") != "bert")
    fail("model_type",
         "\"" + string("model_type", "") + "\" is not supported as an encoder (supported: bert)");
  if (string("position_embedding_type", "absolute") != "absolute")
    fail("position_embedding_type", "only absolute positions are supported");
  EncoderConfig config;
  config.vocab_size = size("vocab_size");
  config.hidden_size = size("hidden_size");
  config.intermediate_size = size("intermediate_size");
  config.num_layers = size("num_hidden_layers");
  config.num_heads = size("num_attention_heads");
  config.max_positions = size("max_position_embeddings");
  config.type_vocab_size = json.contains("type_vocab_size") ? size("type_vocab_size") : 2;
  if (json.contains("layer_norm_eps") && json["layer_norm_eps"].is_number())
    config.norm_eps = json["layer_norm_eps"].get<double>();
  config.activation = string("hidden_act", "gelu");
  if (config.activation != "gelu" && config.activation != "gelu_new")
    fail("hidden_act",
         "\"" + config.activation + "\" is not supported (supported: gelu, gelu_new)");
  if (config.hidden_size % config.num_heads != 0)
    fail("num_attention_heads", "does not divide hidden_size");
  return config;
}

std::unique_ptr<EncoderLm> EncoderLm::load(const std::filesystem::path& path, bool trainable) {
  return std::make_unique<BertEncoder>(*ModelFiles::open(path), trainable);
}

at::Tensor mean_pool(const at::Tensor& hidden_ND, const PackedBatch& batch) {
  std::vector<at::Tensor> means;
  for (int64_t b = 0; b < batch.num_segments(); ++b)
    means.push_back(
        hidden_ND.narrow(0, batch.cu_seqlens[b], batch.cu_seqlens[b + 1] - batch.cu_seqlens[b])
            .mean(0));
  return at::stack(means);
}

at::Tensor embed_segments(EncoderLm& encoder, const PackedBatch& batch) {
  const auto pooled_BD = mean_pool(encoder.hidden_states(batch), batch);
  constexpr double kSmallestNorm = 1e-12;  // torch.nn.functional.normalize's
  return pooled_BD / pooled_BD.norm(2, 1, /*keepdim=*/true).clamp_min(kSmallestNorm);
}

}  // namespace meed
