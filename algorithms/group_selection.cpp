#include "algorithms/group_selection.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "algorithms/rollout_update_loop.h"

namespace meed {
namespace {

/// Indices of a group's completions that have a reward and a token, best first.
std::vector<int64_t> ranked(const ScoredRollouts& rollouts, size_t p, const double* rewards) {
  std::vector<int64_t> order;
  const auto& completions = rollouts.groups[p].completions;
  for (size_t g = 0; g < completions.size(); ++g)
    if (std::isfinite(rewards[g]) && !completions[g].token_ids.empty())
      order.push_back(static_cast<int64_t>(g));
  std::stable_sort(order.begin(), order.end(),
                   [&](int64_t a, int64_t b) { return rewards[a] > rewards[b]; });
  return order;
}

template <typename Mark>
at::Tensor mark_groups(const ScoredRollouts& rollouts, const Mark& mark) {
  const auto rewards_PG = rollouts.rewards_PG.contiguous();
  auto marks_PG = at::zeros(rewards_PG.sizes(), at::kFloat);
  const int64_t G = rewards_PG.size(1);
  for (size_t p = 0; p < rollouts.groups.size(); ++p) {
    const auto* rewards = rewards_PG.const_data_ptr<double>() + static_cast<int64_t>(p) * G;
    mark(ranked(rollouts, p, rewards), rewards,
         marks_PG.mutable_data_ptr<float>() + static_cast<int64_t>(p) * G);
  }
  return marks_PG;
}

}  // namespace

at::Tensor best_and_worst(const ScoredRollouts& rollouts, double least_gap) {
  return mark_groups(rollouts,
                     [&](const std::vector<int64_t>& order, const double* rewards, float* marks) {
                       if (order.size() < 2) return;
                       const double gap = rewards[order.front()] - rewards[order.back()];
                       if (gap <= 0.0 || gap < least_gap) return;
                       marks[order.front()] = 1.0f;
                       const auto worst = std::find_if(order.begin(), order.end(), [&](int64_t g) {
                         return rewards[g] == rewards[order.back()];
                       });
                       marks[*worst] = -1.0f;
                     });
}

at::Tensor best_of_group(const ScoredRollouts& rollouts, int64_t count, double least) {
  return mark_groups(rollouts,
                     [&](const std::vector<int64_t>& order, const double* rewards, float* marks) {
                       for (size_t i = 0; i < order.size() && static_cast<int64_t>(i) < count; ++i)
                         if (rewards[order[i]] >= least) marks[order[i]] = 1.0f;
                     });
}

at::Tensor completion_sums(const PolicyBatch& batch, const at::Tensor& values_M) {
  return at::zeros({batch.num_completions}, at::kFloat)
      .index_add(0, batch.completion_M, values_M * batch.mask_M);
}

}  // namespace meed
