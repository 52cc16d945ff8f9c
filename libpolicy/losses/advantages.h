#pragma once

#include <ATen/core/Tensor.h>

#include <string>

namespace meed {

class Communicator;

/// Group advantages as TRL: (r - mean of the group) / (std + 1e-4), float32 [P, G].
/// `scale_rewards`: "group" (the group's std), "batch" (the std of all rewards on all ranks),
/// "none" (not divided). Stds have ddof 1. NaN rewards take no part in the statistics and get
/// advantage 0. All ranks call it. rewards_PG: float64; P may be 0 on a rank.
at::Tensor group_advantages(const at::Tensor& rewards_PG, const std::string& scale_rewards,
                            Communicator& comm);

}  // namespace meed
