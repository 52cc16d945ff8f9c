#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "libpolicy/generation/rollout.h"

namespace meed {

class Tokenizer;
struct PipelineScores;

/// The groups of one generation on this rank, scored. P groups of G completions.
struct ScoredRollouts {
  std::vector<RolloutGroup> groups;  ///< [P]
  std::vector<int64_t>
      places;              ///< [P], rising: where a group stands in the generation of all ranks
  int64_t num_groups = 0;  ///< of all ranks
  at::Tensor rewards_PG;   ///< float64, weighted sum; NaN where no reward function applied
  at::Tensor terminal_PG;  ///< PipelineScores::terminal_PG; undefined: rewards_PG
  std::map<std::string, at::Tensor> components;   ///< float64 [P, G] by reward name, unweighted
  std::map<std::string, at::Tensor> transformed;  ///< the same after the transforms
  std::map<std::string, double> weights;          ///< of the sum, by reward name
  std::map<std::string, at::Tensor> parts;        ///< float64 [P, G] by "<reward>/<part>"
  std::map<std::string, int64_t> unreadable;      ///< completions by "<reward>/<reason>"
  /// Dense rewards, those of steps on the last token of each step, where a completion's step_ends
  /// says; empty if none.
  std::vector<std::vector<std::vector<double>>> tokens_PGT;
  at::Tensor greedy_P;  ///< float64, rewards of greedy completions; undefined unless asked for
};

/// float64 [P, G]: what a reader of dense rewards adds on a completion's last token.
const at::Tensor& terminal_rewards(const ScoredRollouts& scored);

/// Rollouts with the scores of a pipeline; groups have places rank, rank + size, ...
/// `step_separator`: see step_ends(). Step values beyond a completion's steps go to its last token
/// and are counted in `num_step_mismatches`. With step rewards, every completion's step_ends become
/// those of the steps that have a reward.
ScoredRollouts make_scored(std::vector<RolloutGroup> groups, PipelineScores scores,
                           const Tokenizer& tokenizer, const std::string& step_separator, int rank,
                           int size, int64_t num_groups, int64_t* num_step_mismatches);

/// Index of the last token of each reasoning step: what the completion says itself, else the tokens
/// at which a `separator` ends and the last token; without a separator the last token alone.
std::vector<int64_t> step_ends(const Completion& completion, const Tokenizer& tokenizer,
                               const std::string& separator);

/// The groups at `kept` (indices into groups, rising) with `places`, of `num_groups` in all. Counts
/// of unreadable completions are those of all groups that were looked at.
ScoredRollouts select_groups(const ScoredRollouts& scored, std::span<const int64_t> kept,
                             std::vector<int64_t> places, int64_t num_groups);
/// The groups of both, `more` behind; places are left to the caller.
ScoredRollouts joined_groups(ScoredRollouts scored, ScoredRollouts more);

}  // namespace meed
