#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <vector>

#include "libpolicy/models/attention.h"
#include "libpolicy/models/causal_lm.h"
#include "libpolicy/models/fused_linear.h"
#include "libpolicy/models/rope.h"

namespace meed {

/// A norm's parameters (float32 in any compute dtype).
struct Norm {
  at::Tensor weight, bias;  ///< leaves [D]; bias only for LayerNorm
};

/// What a layer's backward needs. N tokens; T is the compute dtype.
struct LayerActivations {
  at::Tensor input;                         ///< float32 [N, D]; only with activation checkpointing
  at::Tensor xhat1, rstd1;                  ///< T [N, D], float32 [N]: the normalised input
  at::Tensor q_hat, q_rstd, k_hat, k_rstd;  ///< with q/k norm: rows are heads
  at::Tensor qkv, attention, lse;  ///< after norm and rotation; attention's output; float32 [N, H]
  at::Tensor xhat2, rstd2;
  at::Tensor mlp_in;  ///< [gate | up] or up, before the activation
};

/// One block: x += o(attention(norm(x))); x += down(activation(gate_up(norm(x)))).
struct DecoderLayer {
  Norm input_norm, post_attention_norm, q_norm, k_norm;
  FusedLinear qkv, o, gate_up, down;
  int64_t window = 0;  ///< keys that a query sees; 0: all
};

/// The decoder-only transformer behind CausalLm. Forward and backward of the whole stack are one
/// node of the autograd graph: the residual stream is float32, a layer's activations are freed as
/// soon as its backward is done, and gradients go straight to the parameters' .grad.
class Decoder final : public CausalLm {
 public:
  Decoder(const ModelConfig& config, const LoadOptions& options);

  const ModelConfig& config() const override { return config_; }
  at::ScalarType dtype() const override { return options_.dtype; }
  at::Device device() const override { return options_.device; }
  ParameterStore& parameters() override { return parameters_; }
  const DecoderWeights& weights() const override;
  LmHead lm_head() const override;
  void sync_compute_weights() override;
  at::Tensor hidden_states(const PackedBatch& batch) override;
  void set_activation_checkpointing(bool enabled) override { checkpointing_ = enabled; }

  /// The linear maps that hold `module`, for adapters.
  std::vector<FusedLinear*> linears();
  void set_adapters_enabled(bool enabled) override { adapters_enabled_ = enabled; }
  bool adapters_enabled() const override { return adapters_enabled_; }
  void rebuild_weights_view();

  struct Saved {
    PackedBatch batch;  // on the model's device
    RotaryTables rotary;
    std::vector<LayerActivations> layers;
    at::Tensor xhat, rstd;  // of the final norm
    bool adapters = false;
  };
  /// Returns [N, D] in the compute dtype; fills `saved` unless it is null.
  at::Tensor run_forward(const PackedBatch& batch, Saved* saved);
  void run_backward(Saved& saved, const at::Tensor& d_hidden_ND);

 private:
  Norm add_norm(const std::string& name, int64_t size);
  void add_layer(int64_t index);
  void check_batch(const PackedBatch& batch) const;
  AttentionShape attention_shape(const DecoderLayer& layer) const;
  PackedBatch on_device(const PackedBatch& batch) const;
  /// The tensor, or the CPU's copy of one on a GPU, which sync_compute_weights() refreshes.
  at::Tensor for_engine(const at::Tensor& tensor) const;
  LinearWeights for_engine(LinearWeights weights) const;
  NormWeights for_engine(const Norm& norm) const;
  void make_weights_view() const;
  at::Tensor embed(const PackedBatch& batch) const;
  void embed_backward(const PackedBatch& batch, const at::Tensor& d_residual_ND) const;
  void layer_forward(const DecoderLayer& layer, const Saved& run, at::Tensor& residual_ND,
                     LayerActivations* saved) const;
  void layer_backward(const DecoderLayer& layer, const Saved& run, LayerActivations& saved,
                      at::Tensor& d_residual_ND) const;
  at::Tensor normalise(const Norm& norm, const at::Tensor& residual_ND, at::Tensor* xhat,
                       at::Tensor* rstd) const;
  at::Tensor norm_output(const Norm& norm, const at::Tensor& xhat_ND) const;
  void norm_backward(const Norm& norm, const at::Tensor& dy_ND, const at::Tensor& xhat_ND,
                     const at::Tensor& rstd_N, at::Tensor& d_residual_ND) const;
  void qk_norm_forward(const DecoderLayer& layer, at::Tensor& qkv_NC,
                       LayerActivations* saved) const;
  void qk_norm_backward(const DecoderLayer& layer, const LayerActivations& saved,
                        at::Tensor& d_qkv_NC) const;

  ModelConfig config_;
  LoadOptions options_;
  ParameterStore parameters_;
  // What the generation engine sees; made when first asked for, since copies from a GPU cost.
  mutable std::unique_ptr<DecoderWeights> weights_;
  struct HostCopy {
    at::Tensor source, copy;
  };
  mutable std::vector<HostCopy> host_copies_;
  at::Tensor embedding_, positions_, lm_head_;  // masters (lm_head_ is embedding_ when tied)
  at::Tensor embedding_compute_, positions_compute_, lm_head_compute_;
  std::vector<DecoderLayer> layers_;
  Norm final_norm_;
  RotaryCache rotary_;
  bool checkpointing_ = false, adapters_enabled_ = true;
};

}  // namespace meed
