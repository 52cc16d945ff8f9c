#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

#include "libpolicy/core/parameters.h"
#include "libpolicy/models/causal_lm.h"

namespace meed {

/// One low-rank adapter on some output rows of a FusedLinear.
struct LoraSlot {
  std::string module;  ///< "model.layers.0.self_attn.q_proj"
  int64_t first = 0, rows = 0;
  at::Tensor a, b;                  ///< float32 leaves [rank, in], [rows, rank]
  at::Tensor a_compute, b_compute;  ///< the same in the compute dtype
  double scale = 0.0;
};

/// Linear maps of the same input, computed as one product: [q; k; v] or [gate; up].
///
/// Parameters stay separate under their Hugging Face names; their storage is one matrix, and so is
/// the storage of their gradients as long as the caller leaves the gradients where backward put
/// them. Gradients are accumulated straight into .grad, outside autograd.
class FusedLinear {
 public:
  struct Part {
    std::string module;  ///< name without ".weight"
    int64_t rows = 0;
  };
  struct Spec {
    std::vector<Part> parts;
    int64_t in = 0;
    bool bias = false;
    /// GPT-2's Conv1D: one parameter for all parts, stored [in, out]; its module is
    /// `stored_module`.
    bool transposed = false;
    std::string stored_module;
  };

  FusedLinear() = default;
  /// Adds the parameters (uninitialised) to `store`. Masters are float32 where options.trainable,
  /// else there are only compute weights.
  FusedLinear(const Spec& spec, const LoadOptions& options, ParameterStore& store);

  const Spec& spec() const { return spec_; }
  /// The typed view of one part, as the engine reads it.
  LinearWeights part(size_t index) const;

  /// Masters -> compute copies (weights, biases, adapters).
  void sync();

  /// x_NI in the compute dtype -> [N, out].
  at::Tensor forward(const at::Tensor& x_NI, bool adapters) const;
  /// Gradient of the input.
  at::Tensor input_gradient(const at::Tensor& dy_NO, bool adapters) const;
  /// Accumulates the parameters' gradients.
  void accumulate_gradients(const at::Tensor& x_NI, const at::Tensor& dy_NO, bool adapters) const;

  std::vector<LoraSlot>& lora() { return lora_; }
  const std::vector<LoraSlot>& lora() const { return lora_; }
  const at::Tensor& compute_weight() const { return compute_; }
  /// Adds the adapters' products to the weights (masters, or compute weights where there are none).
  void merge_adapters();

 private:
  bool trains_weight() const;
  void accumulate_weight(const at::Tensor& x_NI, const at::Tensor& dy_NO) const;
  void accumulate_bias(const at::Tensor& dy_NO) const;

  Spec spec_;
  at::Tensor master_, compute_;  // [out, in]; compute_ may be master_ itself
  at::Tensor bias_;              // float32 [out]
  std::vector<at::Tensor> weight_leaves_, bias_leaves_;
  std::vector<LoraSlot> lora_;
  bool separate_compute_ = false;
};

/// leaf.grad += value (float32 or bfloat16), taking over `value` where it is float32 and there is
/// no gradient yet.
void accumulate_gradient(const at::Tensor& leaf, const at::Tensor& value);

}  // namespace meed
