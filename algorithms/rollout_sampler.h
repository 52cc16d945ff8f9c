#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "algorithms/recipe.h"
#include "algorithms/rollout_update_loop.h"
#include "libpolicy/data/dataset.h"
#include "libpolicy/generation/environment.h"
#include "libpolicy/generation/rollout_engine.h"
#include "libreward/reward_pipeline.h"

namespace meed {

class CausalLm;
class TrainingRun;

/// How generate_groups samples.
struct GroupOptions {
  const RolloutSection& rollout;
  int64_t num_generations = 1;
  double temperature = 1.0;
  uint64_t seed = 0;
  int64_t first =
      0;  ///< place of rows[0] in the stream of data; with `seed` it decides the samples
  int64_t max_positions = 0;  ///< of the model; 0: no limit
  int rank = 0, world_size = 1;
  Environment* environment = nullptr;  ///< answers calls; null: completions of one turn
};

/// Completions of this rank's share of `rows`: row i belongs to rank i mod size, and its samples do
/// not depend on that. Prompts that are too long lose their start and are counted in `num_cut`.
/// Throws DataError on a row without a prompt.
std::vector<RolloutGroup> generate_groups(RolloutEngine& engine, const Tokenizer& tokenizer,
                                          const Dataset& data, const std::vector<int64_t>& rows,
                                          const GroupOptions& options, int64_t* num_cut = nullptr);

/// Rows in, scored groups out: prompts to tokens, the engine, the rewards, and what is recorded of
/// them.
class RolloutSampler {
 public:
  RolloutSampler(TrainingRun& run, CausalLm& model);

  /// Completions of this rank's share of `rows`, scored. `position` is the place of the first row
  /// in the run's stream of data: with the run's seed it decides the samples, whatever the number
  /// of processes. `greedy`: with the reward of a greedy completion of each prompt too.
  ScoredRollouts sample(const std::vector<int64_t>& rows, int64_t position, int64_t policy_version,
                        bool greedy = false);
  /// Metrics of a generation, and some completions, under `step`.
  void record(const ScoredRollouts& scored, const at::Tensor& advantages_PG, int64_t step);
  /// Scores completions of all of eval_data; records eval_* and completions under `phase`
  /// ("before", "eval", "after").
  void evaluate(const std::string& phase, int64_t step);
  RewardPipeline& rewards() { return rewards_; }
  /// What the rewards and the monitor keep from step to step.
  StateDict state_dict() const;
  void load_state_dict(const StateDict& state);
  /// The model's weights changed.
  void refresh_weights(int64_t policy_version) { engine_->refresh_weights(policy_version); }

 private:
  std::vector<RolloutGroup> generate(const Dataset& data, const std::vector<int64_t>& rows,
                                     uint64_t stream, int64_t first, int64_t num_generations,
                                     double temperature);
  ScoredRollouts score(std::vector<RolloutGroup> groups, int64_t num_groups,
                       const ScoreOptions& options);
  void record_calls(const ScoredRollouts& scored);
  void watch(const ScoredRollouts& scored, double proxy, std::optional<double> gold);
  TrainingRun& run_;
  std::unique_ptr<RolloutEngine> engine_;
  std::unique_ptr<Environment> environment_;
  RewardPipeline rewards_;
  HackingMonitor monitor_;
  int64_t max_positions_;
};

}  // namespace meed
