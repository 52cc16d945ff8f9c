#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "libpolicy/core/parameters.h"
#include "libpolicy/models/model_config.h"
#include "libpolicy/models/packed_batch.h"

namespace meed {

class ModelFiles;

/// y = x W^T (+ b) (+ scale * (x A^T) B^T with a LoRA adapter).
/// Matrices are in the compute dtype, biases float32.
struct LinearWeights {
  at::Tensor weight;          ///< [out, in], as the model computes (see CausalLm)
  at::Tensor bias;            ///< [out] or undefined
  at::Tensor lora_a, lora_b;  ///< [rank, in], [out, rank] or undefined
  double lora_scale = 0.0;
};

struct NormWeights {
  at::Tensor weight, bias;  ///< float32 [D] whatever the compute dtype; bias only for LayerNorm
};

struct DecoderLayerWeights {
  NormWeights input_norm, post_attention_norm;
  LinearWeights q, k, v, o;
  NormWeights q_norm, k_norm;    ///< [head_dim], Qwen3 only
  LinearWeights gate, up, down;  ///< gate undefined for GPT-2
};

struct DecoderWeights {
  at::Tensor embedding;           ///< [V, D]
  at::Tensor position_embedding;  ///< [max positions, D], GPT-2 only
  std::vector<DecoderLayerWeights> layers;
  NormWeights final_norm;
  at::Tensor lm_head;  ///< [V, D]; the embedding itself when tied
};

/// The language-model head as token_logprobs uses it, on the model's device.
struct LmHead {
  at::Tensor weight;  ///< [V, D] in the compute dtype; undefined without a head
  /// The leaf that takes its gradient (float32 [V, D]); undefined where it is not trained.
  at::Tensor master;
};

struct LoadOptions {
  at::ScalarType dtype = at::kFloat;  ///< what the model computes in: kFloat or kBFloat16
  /// Keep float32 master weights that require gradients; with dtype kBFloat16 the compute weights
  /// are bfloat16 copies made by sync_compute_weights().
  bool trainable = false;
  /// Recompute a layer's activations in the backward pass instead of keeping them: about a third
  /// more time for a training forward and backward, a small part of the memory. Gradients are the
  /// same.
  bool activation_checkpointing = false;
  /// Without it only the backbone is made: what a reward model stands on.
  bool lm_head = true;
  /// Where parameters live and hidden_states() computes; a GPU needs load_cuda_library()
  /// (libpolicy/core/cuda_library.h) first.
  at::Device device = at::kCPU;
};

/// A decoder-only transformer. Reward and value models stand on hidden_states(); policies on both.
class CausalLm {
 public:
  virtual ~CausalLm() = default;
  /// Reads a Hugging Face folder or a .gguf file. Throws DataError naming the missing or misshapen
  /// tensor.
  static std::unique_ptr<CausalLm> load(const std::filesystem::path& path,
                                        const LoadOptions& options = {});
  static std::unique_ptr<CausalLm> load(const ModelFiles& files, const LoadOptions& options = {});
  /// Random weights, for tests and toys: matrices normal with deviation `initializer_range`
  /// (transformers' name and default), biases 0, norms 1.
  static std::unique_ptr<CausalLm> create(const ModelConfig& config, uint64_t seed,
                                          const LoadOptions& options = {},
                                          double initializer_range = 0.02);

  virtual const ModelConfig& config() const = 0;
  virtual at::ScalarType dtype() const = 0;
  virtual at::Device device() const = 0;
  /// The float32 masters (trainable) or the compute weights (inference only; norms and biases
  /// float32): Hugging Face names and layouts (GPT-2's Conv1D weights are [in, out]), LoRA factors
  /// included.
  virtual ParameterStore& parameters() = 0;
  /// Typed view of the weights in the compute dtype, for the generation engine. Stable addresses;
  /// values change with sync_compute_weights(). On the CPU: a model on a GPU keeps copies there
  /// from the first call on.
  virtual const DecoderWeights& weights() const = 0;
  virtual LmHead lm_head() const = 0;
  /// After an optimiser step: masters -> compute copies. Nothing to do in float32.
  virtual void sync_compute_weights() = 0;

  /// [N, D] after the final norm, in the compute dtype, on the model's device (the batch is on the
  /// CPU); differentiable if a parameter is trainable
  /// and grad mode is on. Its backward adds the parameters' gradients to their .grad directly
  /// (float32), so backward() works and torch-style "gradient of inputs only" calls do not; one
  /// backward per forward. Throws DataError for an id outside the vocabulary or a position beyond a
  /// learned position table.
  virtual at::Tensor hidden_states(const PackedBatch& batch) = 0;

  virtual void set_activation_checkpointing(bool enabled) = 0;
  /// With LoRA: whether the adapters take part (off: the base model, which is the reference
  /// policy).
  virtual void set_adapters_enabled(bool enabled) = 0;
  virtual bool adapters_enabled() const = 0;
};

/// Hidden states as a head takes them: float32, on the CPU, where heads live. Differentiable.
at::Tensor head_input(const at::Tensor& hidden);

}  // namespace meed
