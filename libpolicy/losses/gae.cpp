#include "libpolicy/losses/gae.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>

#include "libpolicy/core/error.h"
#include "libpolicy/distributed/moments.h"

namespace meed {

GaeOutput compute_gae(const at::Tensor& rewards_T, const at::Tensor& values_T, double gamma,
                      double lam, const at::Tensor& mask_T) {
  MEED_CHECK(rewards_T.sizes() == values_T.sizes() && rewards_T.dim() == 1,
             "compute_gae: one reward and one value for each step");
  const auto as_doubles = [](const at::Tensor& values) {
    return values.detach().to(at::kDouble).contiguous();
  };
  const auto rewards = as_doubles(rewards_T), values = as_doubles(values_T);
  const auto mask = mask_T.defined() ? as_doubles(mask_T) : at::ones_like(rewards);
  auto advantages = at::zeros_like(rewards), returns = at::zeros_like(rewards);
  const auto *r = rewards.const_data_ptr<double>(), *v = values.const_data_ptr<double>(),
             *m = mask.const_data_ptr<double>();
  auto *a = advantages.mutable_data_ptr<double>(), *g = returns.mutable_data_ptr<double>();
  double next_value = 0.0, next_advantage = 0.0, waiting = 0.0;
  for (int64_t t = rewards.numel() - 1; t >= 0; --t) {
    if (m[t] == 0.0) {
      waiting += r[t];
      continue;
    }
    const double delta = r[t] + waiting + gamma * next_value - v[t];
    waiting = 0.0;
    a[t] = delta + gamma * lam * next_advantage;
    g[t] = a[t] + v[t];
    next_value = v[t];
    next_advantage = a[t];
  }
  return {advantages.to(values_T.scalar_type()), returns.to(values_T.scalar_type())};
}

at::Tensor whitened(const at::Tensor& values_M, const at::Tensor& mask_M, Communicator& comm,
                    double max_abs, bool shift_mean) {
  const auto counts_M = (mask_M > 0) & values_M.isfinite();
  const auto moments =
      global_moments(values_M.masked_select(counts_M), comm, /*unbiased=*/false);
  auto result_M = values_M.to(at::kDouble) - moments.mean;
  result_M = moments.varies() ? result_M / moments.std : at::zeros_like(result_M);
  if (max_abs > 0.0) result_M = result_M.masked_fill(result_M.abs() > max_abs, 0.0);
  if (!shift_mean) result_M = result_M + moments.mean;
  return at::where(counts_M, result_M, at::zeros({}, at::kDouble)).to(values_M.scalar_type());
}

LossOutput value_loss(const at::Tensor& values_M, const at::Tensor& old_values_M,
                      const at::Tensor& returns_M, const at::Tensor& mask_M, double cliprange_value,
                      double num_tokens) {
  const auto clipped_M = at::minimum(at::maximum(values_M, old_values_M - cliprange_value),
                                     old_values_M + cliprange_value);
  const auto plain_M = (values_M - returns_M).square();
  const auto bounded_M = (clipped_M - returns_M).square();
  const auto loss_M = 0.5 * at::maximum(plain_M, bounded_M) * mask_M;
  LossOutput output{.loss = loss_M.sum() / std::max(1.0, num_tokens), .metrics = {}};
  const double count = mask_M.sum().item<double>();
  output.metrics["loss/value_avg"] = {loss_M.detach().sum().item<double>(), count};
  output.metrics["val/clipfrac_avg"] = {
      ((bounded_M > plain_M).to(at::kFloat) * mask_M).sum().item<double>(), count};
  return output;
}

}  // namespace meed
