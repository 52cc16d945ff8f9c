#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

namespace meed {

class Communicator;

/// Group advantages as TRL: (r - mean of the group) / (std + 1e-4), float32 [P, G].
/// `scale_rewards`: "group" (the group's std), "batch" (the std of all rewards on all ranks),
/// "none" (not divided). Stds have ddof 1, with `population` ddof 0. NaN rewards take no part in
/// the statistics and get advantage 0. All ranks call it. rewards_PG: float64; P may be 0 on a
/// rank.
at::Tensor group_advantages(const at::Tensor& rewards_PG, const std::string& scale_rewards,
                            Communicator& comm, bool population = false);

/// One advantage a completion, float32 [P, G], by name; NaN rewards as in group_advantages.
///   group            group_advantages with `scale_rewards`
///   rloo             r less the mean of the group's others (Ahmadian et al. 2024)
///   reinforce_plus_plus_baseline  r less the group's mean, then standardised over all completions
///                    of all ranks (Hu et al. 2025)
///   opo              r less the group's mean weighted by length (Hao et al. 2025)
///   gpg              (r - mean) times completions / completions of groups that differ (GPG, Chu et
///                    al. 2025), over all ranks
///   remax            the rewards as they are: the caller has taken off a baseline (ReMax, Li et
///   al.
///                    2024: the reward of a greedy completion)
///   pass_at_k        the group's best sample gets best - second best, the others 0, divided by the
///                    group's std + 1e-4 unless scale_rewards is "none"
/// lengths_PG: tokens, read by opo. All ranks call it.
at::Tensor completion_advantages(const std::string& estimator, const at::Tensor& rewards_PG,
                                 const at::Tensor& lengths_PG, const std::string& scale_rewards,
                                 Communicator& comm, bool population = false);

/// Rewards of one function, float64 [P, G] with NaN where it does not apply, and their weight.
struct WeightedRewards {
  at::Tensor rewards_PG;
  double weight = 1.0;
};

/// Advantages of several rewards that are normalised one by one, float32 [P, G]:
///   normalize_then_sum  s = sum of w_k (r_k - mean) / (std + 1e-4) by group, then (s - mean s) /
///                       (std s + 1e-4) over all completions of all ranks (GDPO; TRL 1.16)
///   sum_of_advantages   sum of w_k group_advantages(r_k, scale_rewards) (Pref-GRPO)
/// A completion to which no reward applies gets 0. All ranks call it.
at::Tensor multi_objective_advantages(const std::string& aggregation,
                                      const std::vector<WeightedRewards>& rewards,
                                      const std::string& scale_rewards, Communicator& comm,
                                      bool population = false);

/// Process supervision (Shao et al. 2024, DeepSeekMath, 4.1.3): rewards of steps, [P][G][steps], are
/// centred and divided by `scale_rewards` over all steps of their group, as group_advantages does
/// with rewards; returns for each step the sum of these from it to the last one, the advantage of
/// the step's tokens. A step of unknown reward (NaN) counts as 0 and takes no part in the
/// statistics. All ranks call it.
std::vector<std::vector<std::vector<double>>> process_advantages(
    const std::vector<std::vector<std::vector<double>>>& steps_PGS,
    const std::string& scale_rewards, Communicator& comm, bool population = false);

/// The names that completion_advantages takes.
const std::vector<std::string>& advantage_estimators();

}  // namespace meed
