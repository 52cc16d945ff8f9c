#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "libreward/reward_function.h"
#include "libreward/reward_transform.h"

namespace meed {

struct PipelineScores {
  at::Tensor rewards_PG;  ///< float64: sum of weight * transformed; NaN where no function applied
  /// The same without the outcomes that the step rewards hold already (ReNorm's last step, a process
  /// model's aggregate): what a reader of dense rewards adds at a completion's end.
  at::Tensor terminal_PG;
  std::map<std::string, at::Tensor>
      components;  ///< float64 [P, G] by name, before transforms and weights
  std::map<std::string, at::Tensor> transformed;  ///< the same after the transforms
  std::map<std::string, double> weights;          ///< of the sum, by name, at this step
  std::map<std::string, at::Tensor>
      parts;  ///< float64 [P, G] by "<name>/<part>"; NaN where a completion has none
  /// Places (p, g) of completions that a function could not read, by "<name>/<reason>".
  std::map<std::string, std::vector<std::pair<int64_t, int64_t>>> unreadable;
  /// Sum of weight * transformed step (token) rewards, [P][G][steps]; empty if no function gives
  /// any.
  std::vector<std::vector<std::vector<double>>> steps_PGS, tokens_PGT;
};

/// When and what for completions are scored.
struct ScoreOptions {
  int64_t step = 0;      ///< optimiser steps done: weight schedules read it
  bool training = true;  ///< false: running statistics stay as they are
};

/// What a reward is called: its `name`, else its `type`; "" if it has neither.
std::string reward_name(const ConfigNode& node);

/// Problems of a `rewards:` list that no single reward shows: two of one name, transforms that do
/// not fit, gates that name no reward.
std::vector<std::string> pipeline_problems(const std::vector<ConfigNode>& nodes);

/// The `rewards:` list of a recipe: functions with their weights, transforms, schedules and gates.
class RewardPipeline {
 public:
  /// Throws ConfigError with all of pipeline_problems.
  RewardPipeline(const std::vector<ConfigNode>& nodes, RunContext& context);
  /// Every group must have the same number of completions. As TRL: a function that does not apply
  /// to a completion (NaN) takes no part in its sum. All ranks call it.
  PipelineScores score(std::span<const RolloutGroup> groups, const ScoreOptions& options = {});
  /// The function of this name; nullptr if there is none.
  RewardFunction* find(const std::string& name);
  /// Running statistics of functions and transforms, under their names.
  StateDict state_dict() const;
  void load_state_dict(const StateDict& state);

 private:
  struct Entry {
    std::string name;
    RewardTerm term;
    std::unique_ptr<RewardFunction> function;
    std::vector<std::unique_ptr<RewardTransform>> transforms;
  };
  static std::vector<std::vector<Score>> scores_of(Entry& entry,
                                                   std::span<const RolloutGroup> groups);
  std::vector<Entry> entries_;
};

}  // namespace meed
