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
  std::map<std::string, at::Tensor>
      components;  ///< float64 [P, G] by name, before transforms and weights
  std::map<std::string, at::Tensor> transformed;  ///< the same after the transforms
  std::map<std::string, at::Tensor>
      parts;  ///< float64 [P, G] by "<name>/<part>"; NaN where a completion has none
  /// Places (p, g) of completions that a function could not read, by "<name>/<reason>".
  std::map<std::string, std::vector<std::pair<int64_t, int64_t>>> unreadable;
  /// Sum of weight * transformed step (token) rewards, [P][G][steps]; empty if no function gives
  /// any.
  std::vector<std::vector<std::vector<double>>> steps_PGS, tokens_PGT;
};

/// The `rewards:` list of a recipe: functions with their weights and transforms.
class RewardPipeline {
 public:
  /// Throws ConfigError; two functions of one name are refused.
  RewardPipeline(const std::vector<ConfigNode>& nodes, RunContext& context);
  /// Every group must have the same number of completions. As TRL: a function that does not apply
  /// to a completion (NaN) takes no part in its sum.
  PipelineScores score(std::span<const RolloutGroup> groups);

 private:
  struct Entry {
    std::string name;
    double weight;
    std::unique_ptr<RewardFunction> function;
    std::vector<std::unique_ptr<RewardTransform>> transforms;
  };
  std::vector<Entry> entries_;
};

}  // namespace meed
