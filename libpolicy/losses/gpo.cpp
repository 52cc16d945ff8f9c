#include "libpolicy/losses/gpo.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "libpolicy/core/error.h"

namespace meed {

at::Tensor mean_preference_scores(const at::Tensor& scores_KK) {
  MEED_CHECK(scores_KK.dim() == 2 && scores_KK.size(0) == scores_KK.size(1),
             "a table of scores is square");
  return scores_KK.sum(1) / std::max<int64_t>(1, scores_KK.size(1));
}

LossOutput gpo_loss(const at::Tensor& logprobs_C, const at::Tensor& old_logprobs_C,
                    const at::Tensor& scores_C, const at::Tensor& log_z_C, double beta,
                    double num_completions) {
  auto target_C = scores_C.detach() / beta;
  if (log_z_C.defined()) target_C = target_C - log_z_C.detach();
  const auto log_ratio_C = logprobs_C - old_logprobs_C.detach();
  LossOutput output{
      .loss = (log_ratio_C - target_C).square().sum() / std::max(1.0, num_completions),
      .metrics = {}};
  const auto count = static_cast<double>(logprobs_C.numel());
  output.metrics["gpo/log_ratio"] = {log_ratio_C.detach().sum().item<double>(), count};
  output.metrics["gpo/target"] = {target_C.sum().item<double>(), count};
  return output;
}

}  // namespace meed
