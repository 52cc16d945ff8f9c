#pragma once

#include <chrono>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "algorithms/recipe.h"
#include "algorithms/report/run_recorder.h"
#include "libpolicy/checkpoint/state_dict.h"
#include "libpolicy/core/run_context.h"
#include "libpolicy/data/dataset.h"
#include "libpolicy/distributed/communicator.h"
#include "libpolicy/text/tokenizer.h"

namespace meed {

class Learner;

struct TrainOptions {
  bool resume = false;
  std::vector<std::string> command_line;
};

/// Everything a loop needs besides its algorithm: processes, folder, recorder, tokenizer, data,
/// checkpoints, and the wish to stop (Ctrl-C). One per process; all ranks construct it together.
class TrainingRun {
 public:
  /// Makes the output folder (refuses one that holds another run unless it resumes). Throws
  /// ConfigError, DataError.
  TrainingRun(const Recipe& recipe, Communicator& comm, const TrainOptions& options);
  ~TrainingRun();

  const Recipe& recipe() const { return recipe_; }
  Communicator& comm() { return comm_; }
  RunRecorder& recorder() { return *recorder_; }
  RunContext& context() { return context_; }
  /// Not to be called by an algorithm that works without a model.
  const Tokenizer& tokenizer() const { return *tokenizer_; }
  const Dataset& data() const { return *data_; }
  const Dataset* eval_data() const { return eval_data_.get(); }
  std::filesystem::path output_dir() const { return recipe_.run.output_dir; }
  uint64_t seed() const { return static_cast<uint64_t>(recipe_.run.seed); }

  /// Optimiser steps of the run when `updates_per_batch` of them use `rows_per_step` rows of the
  /// data.
  int64_t total_steps(int64_t rows_per_step, int64_t updates_per_batch = 1) const;
  /// Something that happens every so many steps fell between two step counts, or the run ends.
  bool is_due(std::optional<int64_t> every, int64_t before, int64_t after, int64_t total) const;

  /// Restores the newest good checkpoint into the learner and returns the loop's own state; nullopt
  /// for a fresh run.
  std::optional<StateDict> restore(Learner& learner);
  /// Writes checkpoints/step-N on rank 0: the model, the optimiser, the loop's `state`.
  void save_checkpoint(Learner& learner, StateDict state);
  /// Adds the tokens of this rank to num_tokens. A collective.
  void record_tokens(int64_t tokens);
  /// Flushes eval_* metrics and notes metric_for_best_model.
  void flush_evaluation(int64_t step);
  /// True on every rank as soon as one rank was asked to stop (SIGINT, SIGTERM). A collective.
  bool stop_requested();
  bool stopped() const { return stopped_; }
  /// Ends the run after this step as a signal would.
  void request_stop() { asked_to_stop_ = true; }

  /// Writes final/ and the report on rank 0.
  void finish(Learner& learner);

 private:
  Recipe recipe_;
  Communicator& comm_;
  std::optional<std::filesystem::path> checkpoint_;
  std::unique_ptr<Tokenizer> tokenizer_;
  std::unique_ptr<RunRecorder> recorder_;
  RunContext context_;
  std::unique_ptr<Dataset> data_, eval_data_;
  std::optional<double> current_metric_;
  int64_t num_tokens_ = 0;
  bool stopped_ = false, asked_to_stop_ = false;
};

/// Runs a recipe, its warm start first. Returns the exit code: 0 done, 130 stopped by a signal and
/// resumable. Throws ConfigError where another run of this machine writes to the folder.
int run_recipe(const Recipe& recipe, const TrainOptions& options);
/// The same on processes that are connected already. All ranks call it.
int run_recipe(const Recipe& recipe, Communicator& comm, const TrainOptions& options);

/// Connects the processes of this launch as `section` says (`auto`: NCCL where models are on
/// `device` "cuda"), turns Ctrl-C into a wish to stop, and calls `work`; what it throws reaches the
/// other processes. Returns what it returns.
int with_processes(const RunSection& section, const std::string& device,
                   const std::function<int(Communicator&)>& work);

}  // namespace meed
