#pragma once

#include <cstdint>

#include "algorithms/scored_rollouts.h"

namespace meed {

class RolloutSampler;
class Sampler;
class TrainingRun;

/// DAPO's dynamic sampling (Yu et al. 2025, section 3.2): batches of `num_prompts` prompts are
/// drawn and scored until so many groups have rewards that differ; the first of them in the order
/// of the data are the generation, whatever the number of processes, each on the rank that sampled
/// it. After rollout.max_num_gen_batches the first groups of equal rewards fill what is missing.
/// Records dynamic_sampling/{num_gen_batches,frac_dropped,num_filled}. All ranks call it.
ScoredRollouts sample_dynamically(TrainingRun& run, RolloutSampler& rollouts, Sampler& sampler,
                                  int64_t num_prompts, int64_t policy_version, bool greedy);

/// Which of the groups of all ranks make up a generation: places with `varied` != 0 first, then the
/// others, `wanted` in all; rising.
std::vector<int64_t> choose_groups(const std::vector<int64_t>& varied, int64_t wanted);

}  // namespace meed
