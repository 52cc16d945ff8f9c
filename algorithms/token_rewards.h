#pragma once

#include <ATen/core/Tensor.h>

#include <span>
#include <string>
#include <vector>

#include "algorithms/rollout_update_loop.h"

namespace meed {

/// Rewards of a completion's tokens, float64 [T]: its outcome (terminal_rewards) on the last token
/// that counts, dense rewards where functions give them, and -kl_coef times the KL estimate ("k1",
/// "k2", "k3") to the reference on every token that counts (Ziegler et al. 2019). A missing outcome
/// is 0. Throws DataError if dense rewards are not as many as tokens.
struct TokenRewards {
  at::Tensor rewards_T;
  double kl_sum = 0.0;  ///< k1, over the tokens that count
};
TokenRewards token_rewards(const ScoredRollouts& rollouts, const CompletionTokens& completion,
                           double kl_coef, const std::string& kl_estimator);

/// One tensor of all completions' tokens, and back: a view for each of `parts`.
at::Tensor joined(std::span<const CompletionTokens> completions,
                  at::Tensor CompletionTokens::*member);
std::vector<at::Tensor> split_like(const at::Tensor& values_M,
                                   std::span<const CompletionTokens> completions);
/// Standardises advantages_T over the tokens of all ranks, as whitened() does; float32. A
/// collective.
void whiten_advantages(std::span<CompletionTokens> completions, Communicator& comm,
                       double max_abs = 0.0);

/// Records objective/kl (k1, sum over a completion), objective/rlhf_reward and objective/scores,
/// means over completions, as TRL's PPO.
struct ObjectiveSums {
  double kl = 0.0, rewards = 0.0, scores = 0.0, count = 0.0;
  void record(MetricsWriter& metrics) const;
};

}  // namespace meed
