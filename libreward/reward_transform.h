#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <string>
#include <vector>

#include "libpolicy/checkpoint/state_dict.h"
#include "libpolicy/core/registry.h"
#include "libpolicy/data/example.h"

namespace meed {

/// The rewards of one step on this rank.
struct RewardBatch {
  at::Tensor
      outcome_PG;  ///< float64 [P, G], one per completion; NaN where the function did not apply
  std::vector<std::vector<std::vector<double>>> steps_PGS{};   ///< Process rewards; empty if none.
  std::vector<std::vector<std::vector<double>>> tokens_PGT{};  ///< Dense rewards; empty if none.
  std::vector<const Example*> examples_P{};  ///< The rows; may be empty where nobody has them.
  bool training = true;  ///< false in an evaluation: running statistics stay as they are
  /// Where a completion has steps, its outcome is one of them or made of them: who reads the steps
  /// does not add it.
  bool steps_hold_outcome = false;

  /// f of every reward of every shape; NaN stays NaN.
  void for_each(const std::function<double(double)>& f);
};

/// Problem of a reward's transforms, or "": each must take a shape that the function and the
/// transforms before it leave. A transform's Config says what it takes by kShapes: "outcome" (the
/// default), "step", "outcome step" (both together) or "any"; "step -> outcome" says that it leaves
/// outcomes alone.
std::string check_shapes(const ConfigNode& reward);

/// What a reward's transforms leave of it, as check_shapes reads them.
struct RewardShapes {
  std::string left;    ///< "outcome", "outcome step", ...; "" where the reward is unknown
  std::string shaper;  ///< the last transform that changed steps which are still there, or ""
};
RewardShapes shapes_of(const ConfigNode& reward);

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
