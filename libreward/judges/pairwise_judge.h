#pragma once

#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "libpolicy/checkpoint/state_dict.h"
#include "libpolicy/core/registry.h"
#include "libpolicy/data/example.h"

namespace meed {

/// Two completions of one prompt, in the order in which the judge sees them.
struct JudgeQuery {
  const Example* example = nullptr;
  std::string_view first, second;
};

/// Says which of two completions is better. What ranks groups (Pref-GRPO), measures samples against
/// an anchor (pairwise PPO, ExTrans) and makes preferences (online DPO).
class PairwiseJudge {
 public:
  virtual ~PairwiseJudge() = default;
  /// P(first is better) in [0, 1] of each query; 0.5 for a tie; NaN where the verdict could not be
  /// read, which callers count as a tie and report.
  virtual std::vector<double> judge(std::span<const JudgeQuery> queries) = 0;
};

Registry<PairwiseJudge>& pairwise_judges();

/// Verdicts free of the order in which the two stand: (P(a over b) + 1 - P(b over a)) / 2, so that
/// equal texts give exactly 0.5 and swapped roles 1 - p (Pairwise-RL). NaN where both orders could
/// not be read; where one could, it alone. `position_bias`: |P(a over b) + P(b over a) - 1|, by how
/// much a verdict hangs on the order; NaN where an order could not be read.
std::vector<double> judge_both_orders(PairwiseJudge& judge, std::span<const JudgeQuery> queries,
                                      std::vector<double>* position_bias = nullptr);

}  // namespace meed
