#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <functional>
#include <memory>

#include "algorithms/recipe.h"
#include "libpolicy/checkpoint/state_dict.h"
#include "libpolicy/core/parameters.h"
#include "libpolicy/losses/loss_output.h"

namespace meed {

class AdamW;
class Communicator;
class GradientReducer;
class LrSchedule;
class MetricsWriter;

/// What the loops train, whatever head it has.
struct TrainableModel {
  std::vector<std::pair<std::string, at::Tensor>>
      parameters;              ///< float32 masters that require gradients
  std::function<void()> sync;  ///< masters -> compute weights
  std::function<void(const std::filesystem::path&)>
      save;  ///< a folder that transformers (or PEFT) reads
  std::function<void(const std::filesystem::path&)>
      save_exact;                                          ///< the same in float32, for checkpoints
  std::function<void(const std::filesystem::path&)> load;  ///< what save_exact wrote
};

/// Turns losses into updates: backward over micro-batches, one reduction over ranks, clipping,
/// AdamW, schedule.
///
/// Losses are sums divided by a count over the whole step and all ranks, so micro-batches and ranks
/// just add up.
class Learner {
 public:
  Learner(TrainableModel model, const OptimSection& config, const std::string& on_nan,
          int64_t total_steps, Communicator& comm, MetricsWriter& metrics);
  ~Learner();

  /// Adds a micro-batch's gradient; its metrics are recorded.
  void accumulate(const LossOutput& output);
  /// Reduces, clips and applies what was accumulated; records loss, grad_norm, learning_rate.
  /// Throws Error on a value that is not finite (on_nan: stop), or leaves the update out. All ranks
  /// call it.
  void update();
  int64_t step() const { return step_; }  ///< updates done

  const TrainableModel& model() const { return model_; }
  StateDict optimizer_state() const;
  /// Takes up a checkpoint: its model folder and the optimiser's state.
  void load(const std::filesystem::path& folder, const StateDict& optimizer);

 private:
  TrainableModel model_;
  OptimSection config_;
  bool skip_nan_;
  int64_t step_ = 0;
  double loss_sum_ = 0.0;
  Communicator& comm_;
  MetricsWriter& metrics_;
  std::unique_ptr<AdamW> optimizer_;
  std::unique_ptr<LrSchedule> schedule_;
  std::unique_ptr<GradientReducer> reducer_;
};

}  // namespace meed
