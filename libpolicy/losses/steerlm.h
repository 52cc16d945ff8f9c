#pragma once

#include "libpolicy/losses/loss_output.h"

namespace meed {

/// n responses to one prompt that asks for attributes a, float32 or float64 [n].
struct SteerSample {
  at::Tensor log_likelihoods_n;  ///< log P(a | x, y): how well a response has the attributes
  at::Tensor prior_logprobs_n;   ///< log P(y | x)
  at::Tensor old_logprobs_n;     ///< log Q'(y | a, x), the policy that sampled
  at::Tensor logprobs_n;         ///< log Q(y | a, x), the policy that learns, with gradient
};

/// Self-normalised importance weights of SteerLM 2.0 (Wang et al. 2024, HelpSteer2): where the
/// policy should be on the sample, w = softmax(log P(a|x,y) + log P(y|x) - log Q'(y|a,x)), and
/// where it is, b = softmax(log Q - log Q'). No gradient.
struct SteerWeights {
  at::Tensor wanted_n, current_n;
};
SteerWeights steer_weights(const SteerSample& sample);

/// sum_i (w_i - b_i) (-log Q(y_i | a, x)), the gradient of KL(w || b); divided by `num_groups` of
/// the whole update and by `mean_tokens`, the mean length of its responses. Zero gradient where Q
/// is proportional to P(a|x,y) P(y|x) on the sample. Metric: steerlm/kl, KL(w || b) of the sample.
LossOutput steerlm_loss(const SteerSample& sample, double num_groups, double mean_tokens);

}  // namespace meed
