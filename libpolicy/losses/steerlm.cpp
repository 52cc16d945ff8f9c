#include "libpolicy/losses/steerlm.h"

#include <ATen/ATen.h>

#include <algorithm>

namespace meed {

SteerWeights steer_weights(const SteerSample& sample) {
  const auto old_n = sample.old_logprobs_n.detach();
  return {
      .wanted_n = (sample.log_likelihoods_n + sample.prior_logprobs_n - old_n).detach().softmax(0),
      .current_n = (sample.logprobs_n.detach() - old_n).softmax(0)};
}

LossOutput steerlm_loss(const SteerSample& sample, double num_groups, double mean_tokens) {
  const auto [wanted_n, current_n] = steer_weights(sample);
  LossOutput output{
      .loss =
          ((wanted_n - current_n).to(sample.logprobs_n.scalar_type()) * -sample.logprobs_n).sum() /
          (std::max(1.0, num_groups) * std::max(1.0, mean_tokens)),
      .metrics = {}};
  // x log x is 0 at 0.
  const auto kl_n = at::xlogy(wanted_n, wanted_n) - at::xlogy(wanted_n, current_n);
  output.metrics["steerlm/kl"] = {kl_n.sum().item<double>(), 1.0};
  return output;
}

}  // namespace meed
