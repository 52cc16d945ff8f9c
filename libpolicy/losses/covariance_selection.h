#pragma once

#include <ATen/core/Tensor.h>

#include "libpolicy/losses/policy_gradient.h"

namespace meed {

class Communicator;

/// Tokens among which clip_cov and kl_cov choose, float32 [M] without gradient.
struct CovarianceTokens {
  at::Tensor logprobs_M;      ///< of the current policy
  at::Tensor old_logprobs_M;  ///< of the policy that sampled
  at::Tensor advantages_M;
  at::Tensor mask_M;  ///< 1 where a token counts
  at::Tensor
      keys_M;  ///< int64, a token's name in the update: with the seed it decides clip_cov's draw
};

/// 1 on the tokens that clip_cov leaves out (a random share clip_cov_ratio of all, among those
/// whose covariance (A - mean A)(logp - mean logp) lies in (clip_cov_low, clip_cov_high) and that
/// PPO's clipping leaves alone) or that kl_cov penalises (the share kl_cov_ratio of largest
/// covariance); at least one of those there are (Cui et al. 2025, as verl). With a communicator
/// means, shares and draws are over the tokens of all ranks, and all ranks call it. float32 [M].
at::Tensor covariance_selection(const PolicyGradientOptions& options,
                                const CovarianceTokens& tokens, Communicator* comm = nullptr);

}  // namespace meed
