// The decoder's parameters: names, shapes, the engine's view of them.
#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "libpolicy/core/error.h"
#include "libpolicy/models/decoder.h"

namespace meed {
namespace {

struct Names {
  std::string embedding, positions, layer, final_norm, input_norm, post_attention_norm;
};

Names names_of(const ModelConfig& config) {
  if (config.model_type == "gpt2")
    return {"transformer.wte.weight",
            "transformer.wpe.weight",
            "transformer.h.",
            "transformer.ln_f",
            "ln_1",
            "ln_2"};
  return {"model.embed_tokens.weight", "", "model.layers.", "model.norm", "input_layernorm",
          "post_attention_layernorm"};
}

}  // namespace

Decoder::Decoder(const ModelConfig& config, const LoadOptions& options)
    : config_(config), options_(options), checkpointing_(options.activation_checkpointing) {
  MEED_CHECK(options.dtype == at::kFloat || options.dtype == at::kBFloat16,
             "compute in float32 or bfloat16");
  const auto stored = at::TensorOptions()
                          .dtype(options.trainable ? at::kFloat : options.dtype)
                          .device(options.device);
  const auto names = names_of(config);
  const auto add = [&](const std::string& name, int64_t rows) {
    auto matrix = at::empty({rows, config.hidden_size}, stored);
    matrix.set_requires_grad(options.trainable);
    return parameters_.add(name, matrix);
  };
  const auto compute_copy = [&](const at::Tensor& master) {
    if (!master.defined() || master.scalar_type() == options.dtype) return master;
    return at::empty(master.sizes(), master.options().dtype(options.dtype));
  };
  embedding_ = add(names.embedding, config.vocab_size);
  if (config.learned_positions) positions_ = add(names.positions, config.max_positions);
  layers_.reserve(config.num_layers);
  for (int64_t i = 0; i < config.num_layers; ++i) add_layer(i);
  final_norm_ = add_norm(names.final_norm, config.hidden_size);
  if (options.lm_head)
    lm_head_ = config.tie_embeddings ? embedding_ : add("lm_head.weight", config.vocab_size);
  embedding_compute_ = compute_copy(embedding_);
  positions_compute_ = compute_copy(positions_);
  if (options.lm_head)
    lm_head_compute_ = config.tie_embeddings ? embedding_compute_ : compute_copy(lm_head_);
  if (!config.learned_positions) rotary_.set_frequencies(rotary_frequencies(config));
}

Norm Decoder::add_norm(const std::string& name, int64_t size) {
  const auto vector = [&](const std::string& suffix) {
    auto leaf = at::empty({size}, at::TensorOptions().dtype(at::kFloat).device(options_.device));
    leaf.set_requires_grad(options_.trainable);
    return parameters_.add(name + suffix, leaf);
  };
  Norm norm;
  norm.weight = vector(".weight");
  if (config_.layer_norm) norm.bias = vector(".bias");
  return norm;
}

void Decoder::add_layer(int64_t index) {
  const auto& c = config_;
  const auto names = names_of(c);
  const std::string layer = names.layer + std::to_string(index) + ".";
  const bool gpt2 = c.model_type == "gpt2";
  const int64_t q_rows = c.num_heads * c.head_dim, kv_rows = c.num_kv_heads * c.head_dim;
  const auto linear = [&](std::vector<FusedLinear::Part> parts, int64_t in, bool bias,
                          const std::string& stored_module) {
    for (auto& part : parts) part.module = layer + part.module;
    return FusedLinear({.parts = std::move(parts),
                        .in = in,
                        .bias = bias,
                        .transposed = gpt2,
                        .stored_module = layer + stored_module},
                       options_, parameters_);
  };
  DecoderLayer made;
  made.window = c.window_of(index);
  made.input_norm = add_norm(layer + names.input_norm, c.hidden_size);
  const std::string attention = gpt2 ? "attn." : "self_attn.";
  made.qkv = linear({{attention + "q_proj", q_rows},
                     {attention + "k_proj", kv_rows},
                     {attention + "v_proj", kv_rows}},
                    c.hidden_size, c.attention_bias, "attn.c_attn");
  made.o =
      linear({{attention + "o_proj", c.hidden_size}}, q_rows, c.attention_out_bias, "attn.c_proj");
  if (c.qk_norm) {
    made.q_norm = add_norm(layer + "self_attn.q_norm", c.head_dim);
    made.k_norm = add_norm(layer + "self_attn.k_norm", c.head_dim);
  }
  made.post_attention_norm = add_norm(layer + names.post_attention_norm, c.hidden_size);
  std::vector<FusedLinear::Part> up{{"mlp.up_proj", c.intermediate_size}};
  if (c.gated_mlp) up.insert(up.begin(), {"mlp.gate_proj", c.intermediate_size});
  made.gate_up = linear(std::move(up), c.hidden_size, c.mlp_bias, "mlp.c_fc");
  made.down =
      linear({{"mlp.down_proj", c.hidden_size}}, c.intermediate_size, c.mlp_bias, "mlp.c_proj");
  layers_.push_back(std::move(made));
}

at::Tensor Decoder::for_engine(const at::Tensor& tensor) const {
  if (!tensor.defined() || tensor.is_cpu()) return tensor.defined() ? tensor.detach() : tensor;
  auto copy = tensor.detach().to(at::kCPU);
  host_copies_.push_back({tensor.detach(), copy});
  return copy;
}

LinearWeights Decoder::for_engine(LinearWeights weights) const {
  for (auto* tensor : {&weights.weight, &weights.bias, &weights.lora_a, &weights.lora_b})
    *tensor = for_engine(*tensor);
  return weights;
}

NormWeights Decoder::for_engine(const Norm& norm) const {
  return {for_engine(norm.weight), for_engine(norm.bias)};
}

void Decoder::make_weights_view() const {
  host_copies_.clear();
  auto& view = *weights_;
  view.embedding = for_engine(embedding_compute_);
  view.position_embedding = for_engine(positions_compute_);
  view.lm_head =
      lm_head_.defined() && config_.tie_embeddings ? view.embedding : for_engine(lm_head_compute_);
  view.final_norm = for_engine(final_norm_);
  view.layers.resize(layers_.size());
  for (size_t i = 0; i < layers_.size(); ++i) {
    const auto& layer = layers_[i];
    auto& out = view.layers[i];
    out.input_norm = for_engine(layer.input_norm);
    out.post_attention_norm = for_engine(layer.post_attention_norm);
    out.q_norm = for_engine(layer.q_norm);
    out.k_norm = for_engine(layer.k_norm);
    out.q = for_engine(layer.qkv.part(0));
    out.k = for_engine(layer.qkv.part(1));
    out.v = for_engine(layer.qkv.part(2));
    out.o = for_engine(layer.o.part(0));
    if (config_.gated_mlp) out.gate = for_engine(layer.gate_up.part(0));
    out.up = for_engine(layer.gate_up.part(config_.gated_mlp ? 1 : 0));
    out.down = for_engine(layer.down.part(0));
  }
}

const DecoderWeights& Decoder::weights() const {
  if (!weights_) {
    weights_ = std::make_unique<DecoderWeights>();
    make_weights_view();
  }
  return *weights_;
}

void Decoder::rebuild_weights_view() {
  if (weights_) make_weights_view();
}

LmHead Decoder::lm_head() const {
  if (!lm_head_.defined()) return {};
  return {lm_head_compute_.detach(), lm_head_.requires_grad() ? lm_head_ : at::Tensor()};
}

void Decoder::sync_compute_weights() {
  at::NoGradGuard no_grad;
  const auto sync = [](const at::Tensor& compute, const at::Tensor& master) {
    if (compute.defined() && !compute.is_same(master)) compute.copy_(master);
  };
  sync(embedding_compute_, embedding_);
  sync(positions_compute_, positions_);
  if (!config_.tie_embeddings) sync(lm_head_compute_, lm_head_);
  for (auto* linear : linears()) linear->sync();
  for (const auto& [source, copy] : host_copies_) copy.copy_(source);
}

std::vector<FusedLinear*> Decoder::linears() {
  std::vector<FusedLinear*> all;
  for (auto& layer : layers_)
    for (auto* linear : {&layer.qkv, &layer.o, &layer.gate_up, &layer.down}) all.push_back(linear);
  return all;
}

}  // namespace meed
