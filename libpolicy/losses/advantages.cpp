#include "libpolicy/losses/advantages.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <limits>

#include "libpolicy/core/error.h"
#include "libpolicy/distributed/communicator.h"
#include "libpolicy/distributed/moments.h"

namespace meed {
namespace {

constexpr double kEpsilon = 1e-4;

/// Rewards of a step with what is known of each group.
struct Groups {
  explicit Groups(const at::Tensor& rewards_PG)
      : rewards(rewards_PG.to(at::kDouble)), known(rewards.isfinite()) {
    filled = at::where(known, rewards, zero);
    count_P1 = known.sum(1, /*keepdim=*/true).to(at::kDouble);
    mean_P1 = filled.sum(1, /*keepdim=*/true) / count_P1.clamp_min(1.0);
    centred = at::where(known, rewards - mean_P1, zero);
  }
  at::Tensor std_P1(bool population = false) const {
    const auto degrees_P1 = population ? count_P1 : count_P1 - 1.0;
    return (centred.square().sum(1, /*keepdim=*/true) / degrees_P1.clamp_min(1.0)).sqrt();
  }
  at::Tensor zero = at::zeros({}, at::kDouble);
  at::Tensor rewards, known, filled, count_P1, mean_P1, centred;
};

at::Tensor pass_at_k(const Groups& groups, const std::string& scale_rewards) {
  auto advantages = at::zeros_like(groups.rewards);
  if (groups.rewards.size(0) == 0 || groups.rewards.size(1) < 2) return advantages;
  const auto low = at::full({}, -std::numeric_limits<double>::infinity(), at::kDouble);
  const auto [best, places] = at::where(groups.known, groups.rewards, low).topk(2, /*dim=*/1);
  auto lead_P1 = best.narrow(1, 0, 1) - best.narrow(1, 1, 1);
  if (scale_rewards != "none") lead_P1 = lead_P1 / (groups.std_P1() + kEpsilon);
  // A group of which fewer than two are known says nothing.
  return advantages.scatter(1, places.narrow(1, 0, 1), lead_P1.nan_to_num(0.0, 0.0, 0.0));
}

}  // namespace

at::Tensor group_advantages(const at::Tensor& rewards_PG, const std::string& scale_rewards,
                            Communicator& comm, bool population) {
  const Groups groups(rewards_PG);
  if (scale_rewards == "none") return groups.centred.to(at::kFloat);
  if (scale_rewards == "batch")
    return (groups.centred / (global_moments(groups.rewards, comm, !population).std + kEpsilon))
        .to(at::kFloat);
  MEED_CHECK(scale_rewards == "group", "unknown scale_rewards " + scale_rewards);
  return (groups.centred / (groups.std_P1(population) + kEpsilon)).to(at::kFloat);
}

at::Tensor multi_objective_advantages(const std::string& aggregation,
                                      const std::vector<WeightedRewards>& rewards,
                                      const std::string& scale_rewards, Communicator& comm,
                                      bool population) {
  MEED_CHECK(!rewards.empty(), "no rewards");
  const bool again = aggregation == "normalize_then_sum";
  MEED_CHECK(again || aggregation == "sum_of_advantages",
             "unknown multi_objective_aggregation " + aggregation);
  const auto shape = rewards[0].rewards_PG.sizes();
  auto sum = at::zeros(shape, at::kDouble);
  auto known = at::zeros(shape, at::kBool);
  for (const auto& [rewards_PG, weight] : rewards) {
    const Groups groups(rewards_PG);
    known = known.logical_or(groups.known);
    sum =
        sum +
        weight *
            (again ? groups.centred / (groups.std_P1(population) + kEpsilon)
                   : group_advantages(rewards_PG, scale_rewards, comm, population).to(at::kDouble));
  }
  const auto zero = at::zeros({}, at::kDouble);
  if (again) {
    const auto nan = at::full({}, std::numeric_limits<double>::quiet_NaN(), at::kDouble);
    const auto moments = global_moments(at::where(known, sum, nan), comm, !population);
    sum = (sum - moments.mean) / (moments.std + kEpsilon);
  }
  return at::where(known, sum, zero).to(at::kFloat);
}

std::vector<std::vector<std::vector<double>>> process_advantages(
    const std::vector<std::vector<std::vector<double>>>& steps_PGS,
    const std::string& scale_rewards, Communicator& comm, bool population) {
  MEED_CHECK(scale_rewards == "group" || scale_rewards == "batch" || scale_rewards == "none",
             "unknown scale_rewards " + scale_rewards);
  std::vector<at::Tensor> rows;  // [1, steps of the group]
  std::vector<at::Tensor> all{at::empty({0}, at::kDouble)};
  for (const auto& group : steps_PGS) {
    std::vector<double> values;
    for (const auto& steps : group) values.insert(values.end(), steps.begin(), steps.end());
    rows.push_back(at::tensor(values, at::kDouble).unsqueeze(0));
    all.push_back(rows.back().squeeze(0));
  }
  double batch_std = 1.0;
  if (scale_rewards == "batch")
    batch_std = global_moments(at::cat(all), comm, !population).std + kEpsilon;
  auto advantages = steps_PGS;
  for (size_t p = 0; p < advantages.size(); ++p) {
    const Groups group(rows[p]);
    auto values = group.centred / batch_std;
    if (scale_rewards == "group") values = values / (group.std_P1(population) + kEpsilon);
    const auto flat = values.contiguous();
    const double* next = flat.const_data_ptr<double>();
    for (auto& steps : advantages[p]) {
      std::copy(next, next + steps.size(), steps.begin());
      next += steps.size();
      for (size_t s = steps.size(); s-- > 1;) steps[s - 1] += steps[s];
    }
  }
  return advantages;
}

at::Tensor completion_advantages(const std::string& estimator, const at::Tensor& rewards_PG,
                                 const at::Tensor& lengths_PG, const std::string& scale_rewards,
                                 Communicator& comm, bool population) {
  if (estimator == "group") return group_advantages(rewards_PG, scale_rewards, comm, population);
  const Groups groups(rewards_PG);
  if (estimator == "remax") return groups.filled.to(at::kFloat);
  if (estimator == "rloo") {
    // r - (sum - r) / (n - 1) = (r - mean) n / (n - 1)
    const auto factor_P1 = groups.count_P1 / (groups.count_P1 - 1.0).clamp_min(1.0);
    return (groups.centred * factor_P1).to(at::kFloat);
  }
  if (estimator == "reinforce_plus_plus_baseline") {
    const auto nan = at::full({}, std::numeric_limits<double>::quiet_NaN(), at::kDouble);
    const auto moments = global_moments(at::where(groups.known, groups.centred, nan), comm);
    return at::where(groups.known, (groups.centred - moments.mean) / (moments.std + kEpsilon),
                     groups.zero)
        .to(at::kFloat);
  }
  if (estimator == "opo") {
    const auto weights = at::where(groups.known, lengths_PG.to(at::kDouble), groups.zero);
    const auto baseline_P1 = (weights * groups.filled).sum(1, /*keepdim=*/true) /
                             weights.sum(1, /*keepdim=*/true).clamp_min(1.0);
    return at::where(groups.known, groups.rewards - baseline_P1, groups.zero).to(at::kFloat);
  }
  if (estimator == "gpg") {
    const auto differs_P1 =
        (groups.std_P1() > kMeanRounding * groups.mean_P1.abs().clamp_min(1.0)).to(at::kDouble);
    at::Tensor counts = at::stack({groups.count_P1.sum(), (groups.count_P1 * differs_P1).sum()});
    comm.all_reduce(counts, ReduceOp::kSum);
    const double factor = counts[0].item<double>() / std::max(1.0, counts[1].item<double>());
    return (groups.centred * factor).to(at::kFloat);
  }
  MEED_CHECK(estimator == "pass_at_k", "unknown advantage estimator " + estimator);
  return pass_at_k(groups, scale_rewards).to(at::kFloat);
}

const std::vector<std::string>& advantage_estimators() {
  static const std::vector<std::string> names = {
      "group", "rloo", "remax", "reinforce_plus_plus_baseline", "opo", "gpg", "pass_at_k"};
  return names;
}

}  // namespace meed
