#include "libpolicy/models/decoder.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/custom_function.h>

#include <cstring>

#include "libpolicy/core/error.h"
#include "libpolicy/models/row_ops.h"

// Forward of a batch of N tokens; everything per token is [N, ...]:
//
//   ids -> embedding (+ learned positions) -> residual (float32)
//   per layer:  residual -> norm -> [q|k|v] -> (q/k norm) -> rotation -> attention -> o -> +
//   residual
//               residual -> norm -> [gate|up] -> activation -> down -> + residual
//   residual -> final norm -> hidden
//
// The backward walks the same list from the end with d_residual (float32), recomputing what is
// cheap: a norm's output from its xhat, the activation's output from its input.
namespace meed {
namespace {

kernels::Activation activation_kind(const std::string& name) {
  if (name == "silu") return kernels::Activation::kSilu;
  if (name == "gelu") return kernels::Activation::kGelu;
  MEED_CHECK(name == "gelu_new", "unknown activation \"" + name + "\"");
  return kernels::Activation::kGeluTanh;
}

struct StackFunction : public torch::autograd::Function<StackFunction> {
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& anchor,
                            Decoder* decoder, const PackedBatch* batch) {
    (void)anchor;
    auto saved = std::make_shared<Decoder::Saved>();
    auto hidden = decoder->run_forward(*batch, saved.get());
    context->saved_data["run"] =
        c10::IValue::make_capsule(c10::make_intrusive<Capsule>(Capsule{decoder, std::move(saved)}));
    return hidden;
  }
  static torch::autograd::tensor_list backward(torch::autograd::AutogradContext* context,
                                               torch::autograd::tensor_list gradients) {
    const auto capsule =
        c10::static_intrusive_pointer_cast<Capsule>(context->saved_data["run"].toCapsule());
    MEED_CHECK(capsule->saved != nullptr, "backward a second time through the same forward");
    const auto saved = std::move(capsule->saved);
    if (gradients[0].defined()) capsule->decoder->run_backward(*saved, gradients[0]);
    return {at::Tensor(), at::Tensor(), at::Tensor()};
  }
  struct Capsule : torch::CustomClassHolder {
    Capsule(Decoder* d, std::shared_ptr<Decoder::Saved> s) : decoder(d), saved(std::move(s)) {}
    Decoder* decoder;
    std::shared_ptr<Decoder::Saved> saved;
  };
};

}  // namespace

void Decoder::check_batch(const PackedBatch& batch) const {
  const auto [low, high] = at::aminmax(batch.ids_N);
  if (low.item<int64_t>() < 0 || high.item<int64_t>() >= config_.vocab_size)
    throw DataError(
        "token id " +
        std::to_string(low.item<int64_t>() < 0 ? low.item<int64_t>() : high.item<int64_t>()) +
        " is outside the model's vocabulary of " + std::to_string(config_.vocab_size) +
        "; do the tokenizer and the model belong together?");
  if (!config_.learned_positions) return;
  const int64_t last = batch.positions_N.max().item<int64_t>();
  if (last >= config_.max_positions)
    throw DataError("a sequence of " + std::to_string(last + 1) + " tokens exceeds the model's " +
                    std::to_string(config_.max_positions) + " learned positions");
}

PackedBatch Decoder::on_device(const PackedBatch& batch) const {
  PackedBatch placed = batch;
  placed.ids_N = batch.ids_N.to(options_.device);
  if (config_.learned_positions) placed.positions_N = batch.positions_N.to(options_.device);
  return placed;
}

at::Tensor Decoder::hidden_states(const PackedBatch& batch) {
  if (batch.num_tokens() == 0)
    return at::empty({0, config_.hidden_size},
                     at::TensorOptions().dtype(options_.dtype).device(options_.device));
  check_batch(batch);
  if (!at::GradMode::is_enabled() || parameters_.trainable().empty()) {
    at::NoGradGuard no_grad;
    return run_forward(batch, nullptr);
  }
  const auto anchor = at::empty({0}).set_requires_grad(true);
  return StackFunction::apply(anchor, this, &batch);
}

AttentionShape Decoder::attention_shape(const DecoderLayer& layer) const {
  return {.num_heads = config_.num_heads,
          .num_kv_heads = config_.num_kv_heads,
          .head_dim = config_.head_dim,
          .sliding_window = layer.window,
          .causal = true};
}

at::Tensor Decoder::embed(const PackedBatch& batch) const {
  auto residual_ND = embedding_compute_.index_select(0, batch.ids_N).to(at::kFloat);
  if (config_.learned_positions)
    residual_ND.add_(positions_compute_.index_select(0, batch.positions_N));
  return residual_ND;
}

void Decoder::embed_backward(const PackedBatch& batch, const at::Tensor& d_residual_ND) const {
  const auto scatter = [&](const at::Tensor& leaf, const at::Tensor& index) {
    if (!leaf.defined() || !leaf.requires_grad()) return;
    if (!leaf.grad().defined()) leaf.mutable_grad() = at::zeros(leaf.sizes(), leaf.options());
    const auto& grad = leaf.grad();
    if (!leaf.is_cpu()) {
      grad.add_(at::embedding_dense_backward(d_residual_ND, index, leaf.size(0), /*padding_idx=*/-1,
                                             /*scale_grad_by_freq=*/false));
      return;
    }
    MEED_CHECK(grad.is_contiguous() && grad.scalar_type() == at::kFloat, "embedding gradient");
    const int64_t D = leaf.size(1), n = index.size(0);
    const auto* rows = index.const_data_ptr<int64_t>();
    const auto* source = d_residual_ND.const_data_ptr<float>();
    auto* target = grad.data_ptr<float>();
    // By columns: two tokens of one row never meet on two threads.
    at::parallel_for(0, D, 64, [&](int64_t begin, int64_t end) {
      for (int64_t i = 0; i < n; ++i)
        kernels::accumulate(source + i * D + begin, end - begin, target + rows[i] * D + begin);
    });
  };
  scatter(embedding_, batch.ids_N);
  if (config_.learned_positions) scatter(positions_, batch.positions_N);
}

at::Tensor Decoder::run_forward(const PackedBatch& batch, Saved* saved) {
  Saved local;
  Saved& run = saved ? *saved : local;
  run.batch = on_device(batch);
  run.rotary = rotary_.at(batch.positions_N);
  if (run.rotary.cosine.defined())
    run.rotary = {run.rotary.cosine.to(options_.device), run.rotary.sine.to(options_.device)};
  run.adapters = adapters_enabled_;
  auto residual_ND = embed(run.batch);
  if (saved) run.layers.resize(layers_.size());
  for (size_t i = 0; i < layers_.size(); ++i) {
    if (saved && checkpointing_) run.layers[i].input = residual_ND.clone();
    layer_forward(layers_[i], run, residual_ND,
                  saved && !checkpointing_ ? &run.layers[i] : nullptr);
  }
  return normalise(final_norm_, residual_ND, saved ? &run.xhat : nullptr,
                   saved ? &run.rstd : nullptr);
}

void Decoder::run_backward(Saved& run, const at::Tensor& d_hidden_ND) {
  at::NoGradGuard no_grad;
  auto d_residual_ND = at::zeros(d_hidden_ND.sizes(), d_hidden_ND.options().dtype(at::kFloat));
  norm_backward(final_norm_, d_hidden_ND.to(options_.dtype).contiguous(), run.xhat, run.rstd,
                d_residual_ND);
  run.xhat = run.rstd = at::Tensor();
  for (size_t i = layers_.size(); i-- > 0;) {
    auto& saved = run.layers[i];
    if (saved.input.defined()) {
      auto input = std::move(saved.input);
      layer_forward(layers_[i], run, input, &saved);
    }
    layer_backward(layers_[i], run, saved, d_residual_ND);
    saved = {};
  }
  embed_backward(run.batch, d_residual_ND);
}

at::Tensor Decoder::normalise(const Norm& norm, const at::Tensor& residual_ND, at::Tensor* xhat,
                              at::Tensor* rstd) const {
  return norm_forward(residual_ND, norm.weight, norm.bias, {config_.norm_eps, config_.layer_norm},
                      options_.dtype, xhat, rstd);
}

at::Tensor Decoder::norm_output(const Norm& norm, const at::Tensor& xhat_ND) const {
  return meed::norm_output(xhat_ND, norm.weight, norm.bias);
}

void Decoder::norm_backward(const Norm& norm, const at::Tensor& dy_ND, const at::Tensor& xhat_ND,
                            const at::Tensor& rstd_N, at::Tensor& d_residual_ND) const {
  meed::norm_backward(dy_ND, xhat_ND, rstd_N, norm.weight, norm.bias,
                      {config_.norm_eps, config_.layer_norm}, d_residual_ND);
}

void Decoder::layer_forward(const DecoderLayer& layer, const Saved& run, at::Tensor& residual_ND,
                            LayerActivations* saved) const {
  const auto kind = activation_kind(config_.activation);
  {
    const auto normed_ND = normalise(layer.input_norm, residual_ND, saved ? &saved->xhat1 : nullptr,
                                     saved ? &saved->rstd1 : nullptr);
    auto qkv_NC = layer.qkv.forward(normed_ND, run.adapters);
    if (config_.qk_norm) qk_norm_forward(layer, qkv_NC, saved);
    if (run.rotary.cosine.defined())
      rotate(qkv_NC, config_.num_heads + config_.num_kv_heads, config_.head_dim, run.rotary.cosine,
             run.rotary.sine, 1.0f);
    const auto lse =
        saved ? at::empty({qkv_NC.size(0), config_.num_heads}, qkv_NC.options().dtype(at::kFloat))
              : at::Tensor();
    const auto attended_NC = attention_forward(qkv_NC, run.batch, attention_shape(layer), lse);
    add_rows(residual_ND, layer.o.forward(attended_NC, run.adapters));
    if (saved) {
      saved->qkv = qkv_NC;
      saved->attention = attended_NC;
      saved->lse = lse;
    }
  }
  const auto normed_ND =
      normalise(layer.post_attention_norm, residual_ND, saved ? &saved->xhat2 : nullptr,
                saved ? &saved->rstd2 : nullptr);
  const auto mlp_in = layer.gate_up.forward(normed_ND, run.adapters);
  add_rows(residual_ND,
           layer.down.forward(activate(mlp_in, config_.gated_mlp, kind), run.adapters));
  if (saved) saved->mlp_in = mlp_in;
}

void Decoder::layer_backward(const DecoderLayer& layer, const Saved& run, LayerActivations& saved,
                             at::Tensor& d_residual_ND) const {
  const auto kind = activation_kind(config_.activation);
  {
    const auto d_out_ND = to_compute(d_residual_ND, options_.dtype);
    const auto d_mlp = layer.down.input_gradient(d_out_ND, run.adapters);
    activate_backward(saved.mlp_in, d_mlp, config_.gated_mlp, kind);
    layer.down.accumulate_gradients(/*x_NI=*/d_mlp, d_out_ND, run.adapters);
  }
  {
    const auto d_normed_ND = layer.gate_up.input_gradient(saved.mlp_in, run.adapters);
    layer.gate_up.accumulate_gradients(norm_output(layer.post_attention_norm, saved.xhat2),
                                       saved.mlp_in, run.adapters);
    saved.mlp_in = at::Tensor();
    norm_backward(layer.post_attention_norm, d_normed_ND, saved.xhat2, saved.rstd2, d_residual_ND);
    saved.xhat2 = at::Tensor();
  }
  at::Tensor d_qkv_NC;
  {
    const auto d_out_ND = to_compute(d_residual_ND, options_.dtype);
    layer.o.accumulate_gradients(saved.attention, d_out_ND, run.adapters);
    const auto d_attended_NC = layer.o.input_gradient(d_out_ND, run.adapters);
    d_qkv_NC = attention_backward(saved.qkv, saved.attention, saved.lse, d_attended_NC, run.batch,
                                  attention_shape(layer));
  }
  saved.qkv = saved.attention = at::Tensor();
  if (run.rotary.cosine.defined())
    rotate(d_qkv_NC, config_.num_heads + config_.num_kv_heads, config_.head_dim, run.rotary.cosine,
           run.rotary.sine, -1.0f);
  if (config_.qk_norm) qk_norm_backward(layer, saved, d_qkv_NC);
  layer.qkv.accumulate_gradients(norm_output(layer.input_norm, saved.xhat1), d_qkv_NC,
                                 run.adapters);
  norm_backward(layer.input_norm, layer.qkv.input_gradient(d_qkv_NC, run.adapters), saved.xhat1,
                saved.rstd1, d_residual_ND);
}

// Each head of q and k is normalised for itself: rows of head_dim values.
void Decoder::qk_norm_forward(const DecoderLayer& layer, at::Tensor& qkv_NC,
                              LayerActivations* saved) const {
  const int64_t q_size = config_.num_heads * config_.head_dim,
                k_size = config_.num_kv_heads * config_.head_dim;
  const auto apply = [&](int64_t first, int64_t size, const Norm& norm, at::Tensor* hat,
                         at::Tensor* rstd) {
    auto slice = qkv_NC.narrow(1, first, size);
    const auto rows = slice.to(at::kFloat).reshape({-1, config_.head_dim});
    slice.copy_(
        norm_forward(rows, norm.weight, {}, {config_.norm_eps, false}, options_.dtype, hat, rstd)
            .view({qkv_NC.size(0), size}));
  };
  apply(0, q_size, layer.q_norm, saved ? &saved->q_hat : nullptr, saved ? &saved->q_rstd : nullptr);
  apply(q_size, k_size, layer.k_norm, saved ? &saved->k_hat : nullptr,
        saved ? &saved->k_rstd : nullptr);
}

void Decoder::qk_norm_backward(const DecoderLayer& layer, const LayerActivations& saved,
                               at::Tensor& d_qkv_NC) const {
  const int64_t q_size = config_.num_heads * config_.head_dim,
                k_size = config_.num_kv_heads * config_.head_dim;
  const auto apply = [&](int64_t first, int64_t size, const Norm& norm, const at::Tensor& hat,
                         const at::Tensor& rstd) {
    auto slice = d_qkv_NC.narrow(1, first, size);
    const auto dx = at::zeros({slice.size(0) * size / config_.head_dim, config_.head_dim},
                              slice.options().dtype(at::kFloat));
    meed::norm_backward(slice.reshape({-1, config_.head_dim}), hat, rstd, norm.weight, {},
                        {config_.norm_eps, false}, dx);
    slice.copy_(dx.view({slice.size(0), size}));
  };
  apply(0, q_size, layer.q_norm, saved.q_hat, saved.q_rstd);
  apply(q_size, k_size, layer.k_norm, saved.k_hat, saved.k_rstd);
}

}  // namespace meed
