#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "libpolicy/checkpoint/state_dict.h"
#include "libpolicy/core/registry.h"

namespace meed {

/// The rewards of one step on this rank.
struct RewardBatch {
  at::Tensor
      outcome_PG;  ///< float64 [P, G], one per completion; NaN where the function did not apply
  std::vector<std::vector<std::vector<double>>> steps_PGS{};  ///< Process rewards; empty if none.
};

/// Changes rewards between scoring and advantages. Statistics that must agree over ranks are
/// reduced through the RunContext's communicator.
class RewardTransform {
 public:
  virtual ~RewardTransform() = default;
  virtual void apply(RewardBatch& rewards) = 0;
  virtual void save(StateDict&) const {}  ///< Running statistics; most transforms have none.
  virtual void load(const StateDict&) {}
};

Registry<RewardTransform>& reward_transforms();

}  // namespace meed
