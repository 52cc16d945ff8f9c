#include "libpolicy/losses/advantages.h"

#include <ATen/ATen.h>

#include <cmath>

#include "libpolicy/core/error.h"
#include "libpolicy/distributed/communicator.h"

namespace meed {
namespace {

constexpr double kEpsilon = 1e-4;

/// Sample std (ddof 1) of the finite values over all ranks; 0 if there are fewer than two.
double global_std(const at::Tensor& values, Communicator& comm) {
  const auto finite = values.masked_select(values.isfinite());
  at::Tensor sums =
      at::stack({finite.sum(), at::full({}, static_cast<double>(finite.numel()), at::kDouble)});
  comm.all_reduce(sums, ReduceOp::kSum);
  const double count = sums[1].item<double>();
  const double mean = count > 0 ? sums[0].item<double>() / count : 0.0;
  at::Tensor squares = (finite - mean).square().sum().reshape({1});
  comm.all_reduce(squares, ReduceOp::kSum);
  return count > 1 ? std::sqrt(squares.item<double>() / (count - 1)) : 0.0;
}

}  // namespace

at::Tensor group_advantages(const at::Tensor& rewards_PG, const std::string& scale_rewards,
                            Communicator& comm) {
  const auto rewards = rewards_PG.to(at::kDouble);
  const auto finite = rewards.isfinite();
  const auto zero = at::zeros({}, at::kDouble);
  const auto count_P1 = finite.sum(1, /*keepdim=*/true).to(at::kDouble);
  const auto mean_P1 =
      at::where(finite, rewards, zero).sum(1, /*keepdim=*/true) / count_P1.clamp_min(1.0);
  const auto centred = at::where(finite, rewards - mean_P1, zero);
  if (scale_rewards == "none") return centred.to(at::kFloat);
  if (scale_rewards == "batch")
    return (centred / (global_std(rewards, comm) + kEpsilon)).to(at::kFloat);
  MEED_CHECK(scale_rewards == "group", "unknown scale_rewards " + scale_rewards);
  const auto std_P1 =
      (centred.square().sum(1, /*keepdim=*/true) / (count_P1 - 1.0).clamp_min(1.0)).sqrt();
  return (centred / (std_P1 + kEpsilon)).to(at::kFloat);
}

}  // namespace meed
