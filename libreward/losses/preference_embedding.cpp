#include "libreward/losses/preference_embedding.h"

#include <ATen/ATen.h>

#include "libpolicy/core/error.h"

namespace meed {
namespace {

/// [.., 2k] -> the two halves of each block, [.., k].
std::pair<at::Tensor, at::Tensor> blocks(const at::Tensor& embeddings) {
  MEED_CHECK(embeddings.size(-1) % 2 == 0, "a preference embedding has an even size");
  auto sizes = embeddings.sizes().vec();
  sizes.back() /= 2;
  sizes.push_back(2);
  const auto pairs = embeddings.reshape(sizes);
  return {pairs.select(-1, 0), pairs.select(-1, 1)};
}

}  // namespace

at::Tensor preference_score(const at::Tensor& first_BE, const at::Tensor& second_BE,
                            const at::Tensor& block_weights) {
  const auto [a0, a1] = blocks(first_BE);
  const auto [b0, b1] = blocks(second_BE);
  auto score = a0 * b1 - a1 * b0;
  if (block_weights.defined()) score = score * block_weights;
  return score.sum(/*dim=*/-1);
}

at::Tensor preference_scores(const at::Tensor& embeddings_nE, const at::Tensor& block_weights) {
  return preference_score(embeddings_nE.unsqueeze(1), embeddings_nE.unsqueeze(0), block_weights);
}

LossOutput preference_embedding_loss(const at::Tensor& chosen_BE, const at::Tensor& rejected_BE,
                                     double tau, double num_pairs,
                                     const at::Tensor& block_weights) {
  MEED_CHECK(tau > 0, "tau must be positive");
  const auto scores_B = preference_score(chosen_BE, rejected_BE, block_weights);
  LossOutput output{.loss = -at::log_sigmoid(scores_B / tau).sum() / num_pairs, .metrics = {}};
  const auto count = static_cast<double>(scores_B.numel());
  output.metrics["accuracy"] = {(scores_B > 0).sum().item<double>(), count};
  output.metrics["margin"] = {scores_B.detach().sum().item<double>(), count};
  return output;
}

}  // namespace meed
