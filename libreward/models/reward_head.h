#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <string>
#include <vector>

#include "libpolicy/core/parameters.h"
#include "libpolicy/core/registry.h"

namespace meed {

/// Pooled hidden states of B texts, float32 or float64.
struct HeadInput {
  at::Tensor features_BD;  ///< of prompt and completion
  at::Tensor context_BD;   ///< at the prompt's end; what gates read
};

struct HeadOutput {
  at::Tensor rewards_B;     ///< the one number that is served
  at::Tensor outputs_BK;    ///< attributes, rewards of each head, or an embedding
  at::Tensor log_gates_BK;  ///< log of the weights of the heads (or aspects); undefined otherwise
  at::Tensor blocks_Bk;   ///< prompt-scaled embeddings: weights of the blocks; undefined otherwise
  at::Tensor hidden_BH;   ///< MLPs: what the last layer reads; undefined otherwise
  at::Tensor aspects_BJ;  ///< aspects: score of each; undefined otherwise
};

/// The outputs of every `step`-th text from `first` on: one side of rows that stand together.
HeadOutput every(const HeadOutput& outputs, int64_t first, int64_t step);

/// What stands on a backbone in place of the language-model head. Callable on any features.
class RewardHead {
 public:
  virtual ~RewardHead() = default;
  /// Makes the parameters for features of D numbers, from `seed` alone. Called once, before
  /// forward.
  virtual void init(int64_t D, uint64_t seed) = 0;
  virtual HeadOutput forward(const HeadInput& input) const = 0;
  /// What the columns of outputs_BK are called; empty where they have no meaning one by one.
  virtual std::vector<std::string> output_names() const { return {}; }
  /// What the columns of log_gates_BK are called.
  virtual std::vector<std::string> gate_names() const { return {}; }
  /// log-odds that the first of two texts of one prompt is better, [B].
  virtual at::Tensor preference(const HeadOutput& first, const HeadOutput& second) const;
  ParameterStore& parameters() { return parameters_; }
  /// Before init: contexts have C numbers, where that is not the features' D.
  void set_context_size(int64_t C) { context_size_ = C; }

 protected:
  int64_t context_size(int64_t D) const { return context_size_ > 0 ? context_size_ : D; }
  ParameterStore parameters_;

 private:
  int64_t context_size_ = 0;
};

/// linear, mlp, attributes, mixture, preference_embedding, aspects.
Registry<RewardHead>& reward_heads();

/// Deviation of a head's first weights: transformers' initializer_range.
constexpr double kHeadStd = 0.02;
/// y = x W^T (+ b) with the parameters "NAME.weight" and, where it is there, "NAME.bias" in x's
/// dtype.
at::Tensor linear_map(const at::Tensor& x, const ParameterStore& parameters,
                      const std::string& name);
/// float32 of this shape, normal with deviation `std`.
at::Tensor random_weights(at::IntArrayRef shape, double std, uint64_t seed);

}  // namespace meed
