#include "libpolicy/losses/advantages.h"

#include <ATen/ATen.h>

#include "libpolicy/core/error.h"
#include "libpolicy/distributed/moments.h"

namespace meed {
namespace {

constexpr double kEpsilon = 1e-4;

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
    return (centred / (global_moments(rewards, comm).std + kEpsilon)).to(at::kFloat);
  MEED_CHECK(scale_rewards == "group", "unknown scale_rewards " + scale_rewards);
  const auto std_P1 =
      (centred.square().sum(1, /*keepdim=*/true) / (count_P1 - 1.0).clamp_min(1.0)).sqrt();
  return (centred / (std_P1 + kEpsilon)).to(at::kFloat);
}

}  // namespace meed
