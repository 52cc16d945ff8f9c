#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "algorithms/scored_rollouts.h"

namespace meed {

struct PolicyBatch;

/// Best and worst completion of each group by reward among those with a reward and a token, float32
/// [P, G]: +1 and -1, 0 elsewhere and in groups whose rewards do not differ, or by less than
/// `least_gap`. The first of equals is taken.
at::Tensor best_and_worst(const ScoredRollouts& rollouts, double least_gap = 0.0);
/// 1 on the `count` best of each group whose reward is at least `least`, 0 elsewhere; the earlier
/// of equals goes first.
at::Tensor best_of_group(const ScoredRollouts& rollouts, int64_t count, double least);

/// Sums over each completion's tokens that count, [C]; with the gradient of values_M.
at::Tensor completion_sums(const PolicyBatch& batch, const at::Tensor& values_M);

}  // namespace meed
