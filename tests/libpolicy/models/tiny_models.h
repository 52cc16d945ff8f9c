#pragma once

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "libpolicy/models/causal_lm.h"
#include "libpolicy/models/token_logprobs.h"

namespace meed::testing {

/// A small decoder of each family, with every option that the family has.
inline ModelConfig tiny_config(const std::string& family) {
  ModelConfig config;
  config.model_type = family;
  config.vocab_size = 97;
  config.hidden_size = 24;
  config.intermediate_size = 40;
  config.num_layers = 2;
  config.num_heads = 4;
  config.num_kv_heads = 2;
  config.head_dim = 6;
  config.max_positions = 64;
  config.tie_embeddings = family == "qwen2" || family == "gpt2";
  if (family == "mistral") config.sliding_window = 5;
  if (family == "qwen2") config.attention_bias = true;
  if (family == "qwen3") {
    config.qk_norm = true;
    config.head_dim = 10;
  }
  if (family == "gpt2") {
    config.num_kv_heads = 4;
    config.attention_bias = config.attention_out_bias = config.mlp_bias = true;
    config.layer_norm = config.learned_positions = true;
    config.gated_mlp = false;
    config.activation = "gelu_new";
  }
  return config;
}

/// Random values for all parameters, norms and biases included, so that no gradient is trivial.
inline void randomise(CausalLm& model, double scale, int64_t seed) {
  at::NoGradGuard no_grad;
  auto generator = at::detail::createCPUGenerator(seed);
  for (const auto& [name, leaf] : model.parameters().items()) {
    const auto noise = at::empty(leaf.sizes(), at::kFloat).normal_(0.0, scale, generator);
    leaf.detach().copy_(leaf.dim() == 1 && !name.ends_with("bias") ? noise + 1.0 : noise);
  }
  model.sync_compute_weights();
}

inline std::vector<int64_t> some_ids(int64_t count, int64_t seed, int64_t vocabulary = 97) {
  std::vector<int64_t> ids;
  uint64_t state = static_cast<uint64_t>(seed) * 7919 + 17;
  for (int64_t i = 0; i < count; ++i) {
    state = state * 6364136223846793005ull + 1442695040888963407ull;
    ids.push_back(static_cast<int64_t>((state >> 33) % static_cast<uint64_t>(vocabulary)));
  }
  return ids;
}

/// Rows alone and rows that share a prefix.
inline void add_family(PackedBatchBuilder& builder) {
  builder.add(some_ids(7, 1));
  const auto prefix = builder.add(some_ids(9, 2));
  builder.add(some_ids(6, 3), prefix);
  builder.add(some_ids(1, 4));
  builder.add(some_ids(8, 5), prefix);
}

inline PackedBatch family_batch() {
  PackedBatchBuilder builder;
  add_family(builder);
  return builder.build();
}

/// All tokens that have a predecessor.
inline at::Tensor predicted(const PackedBatch& batch) {
  return at::nonzero(batch.predecessors_N.ge(0)).flatten();
}

/// A loss that weighs each token differently.
inline at::Tensor loss_of(CausalLm& model, const PackedBatch& batch) {
  const auto result = token_logprobs(model, batch, predicted(batch), 0.8, /*with_entropy=*/true);
  EXPECT_TRUE(result.logprobs_M.is_cpu());  // whatever the model's device
  const auto weights = at::arange(1, result.logprobs_M.numel() + 1, at::kFloat).sin();
  return (result.logprobs_M * weights).sum() + (result.entropy_M * weights).sum() * 0.3;
}

}  // namespace meed::testing
