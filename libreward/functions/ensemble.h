#pragma once

#include <ATen/core/Tensor.h>

#include <span>
#include <string>
#include <vector>

namespace meed {

/// One reward from M members' (Helping or herding, Eisenstein et al. 2023), float64 [M, N] -> [N]:
/// "mean", "median" (mean of the two middle ones), "min", "mean_minus_std" (mean - c times the
/// population deviation), "weighted" (mean by `weights`, M numbers).
at::Tensor aggregate_members(const at::Tensor& rewards_MN, const std::string& how, double c = 0.5,
                             const std::vector<double>& weights = {});

/// Members less their mean over each prompt's completions: a Bradley-Terry reward is free up to a
/// number a prompt. [M, P, G].
at::Tensor centred_by_prompt(const at::Tensor& rewards_MPG);

/// RewardFusion (Trickle-down): the mean of a text's own reward and its neighbours', by cosine
/// similarity; the own weighs 1. Neighbours below `least_similarity` do not count; at most
/// `max_neighbours`, the most similar ones, do.
double fused_reward(double own_reward, std::span<const double> similarities,
                    std::span<const double> rewards, double least_similarity = 0.9,
                    size_t max_neighbours = 5);

}  // namespace meed
