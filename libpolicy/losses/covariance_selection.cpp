#include "libpolicy/losses/covariance_selection.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>

#include "libpolicy/core/error.h"
#include "libpolicy/core/random.h"
#include "libpolicy/distributed/communicator.h"

namespace meed {
namespace {

constexpr uint64_t kClipCovStream = 0x636f76;

/// The values of all ranks.
at::Tensor of_all_ranks(const at::Tensor& values, Communicator* comm) {
  return comm == nullptr ? values : at::cat(all_gather_ragged(*comm, values.contiguous()));
}

at::Tensor covariance(const CovarianceTokens& tokens, double count, Communicator* comm) {
  const auto mask_M = tokens.mask_M.to(at::kDouble);
  const auto advantages_M = tokens.advantages_M.to(at::kDouble);
  const auto logprobs_M = tokens.logprobs_M.to(at::kDouble);
  auto sums = at::stack({(advantages_M * mask_M).sum(), (logprobs_M * mask_M).sum()});
  if (comm != nullptr) comm->all_reduce(sums, ReduceOp::kSum);
  const auto means = sums / std::max(1.0, count);
  return (advantages_M - means[0]) * (logprobs_M - means[1]);
}

/// 1 where `values_M` (any of which may be left out by `eligible_M`) is among the `count` largest
/// of all ranks; equal values at the border all belong.
at::Tensor largest(const at::Tensor& values_M, const at::Tensor& eligible_M, int64_t count,
                   Communicator* comm) {
  const auto all = of_all_ranks(values_M.masked_select(eligible_M), comm);
  const int64_t wanted = std::min(count, all.numel());
  if (wanted == 0) return at::zeros({values_M.numel()});
  const auto border = std::get<0>(all.topk(wanted)).min();
  return ((values_M >= border) & eligible_M).to(at::kFloat);
}

}  // namespace

at::Tensor covariance_selection(const PolicyGradientOptions& options,
                                const CovarianceTokens& tokens, Communicator* comm) {
  at::NoGradGuard no_grad;
  at::Tensor total = tokens.mask_M.sum(at::kDouble).reshape({1});
  if (comm != nullptr) comm->all_reduce(total, ReduceOp::kSum);
  const double count = total.item<double>();
  const auto covariance_M = covariance(tokens, count, comm);
  const auto counts_M = tokens.mask_M > 0;
  const auto share = [&](double ratio) {
    return std::max<int64_t>(1, static_cast<int64_t>(ratio * count));
  };
  if (options.loss_type == "kl_cov")
    return largest(covariance_M, counts_M, share(options.kl_cov_ratio), comm);
  MEED_CHECK(options.loss_type == "clip_cov", "no covariance in loss " + options.loss_type);
  const auto ratio_M = (tokens.logprobs_M - tokens.old_logprobs_M).exp();
  const auto clipped_M = ratio_M.clamp(1.0 - options.epsilon, 1.0 + options.epsilon_high);
  const auto free_M = -clipped_M * tokens.advantages_M <= -ratio_M * tokens.advantages_M;
  const auto eligible_M = counts_M & free_M & (covariance_M > options.clip_cov_low) &
                          (covariance_M < options.clip_cov_high);
  auto draws_M = at::empty_like(covariance_M);
  const auto keys = tokens.keys_M.contiguous();
  const auto* key = keys.const_data_ptr<int64_t>();
  auto* draw = draws_M.mutable_data_ptr<double>();
  for (int64_t m = 0; m < keys.numel(); ++m)
    draw[m] = uniform(mix_seed({options.seed, kClipCovStream, static_cast<uint64_t>(key[m])}), 0);
  return largest(draws_M, eligible_M, share(options.clip_cov_ratio), comm);
}

}  // namespace meed
