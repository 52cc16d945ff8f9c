#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "libpolicy/core/metrics.h"

namespace meed {

class Communicator;

/// A sampled completion as completions.jsonl and the report show it.
struct CompletionRecord {
  int64_t step = 0;             ///< global step it was sampled at; 0 before training
  std::string phase = "train";  ///< "before", "train" or "after"
  std::string prompt;           ///< as a person reads it: the question or the rendered dialogue
  std::string completion;
  double reward = 0;                      ///< total, after weights and transforms
  std::map<std::string, double> rewards;  ///< by reward function, before weights
  std::optional<double> advantage;
  std::string finish_reason;  ///< "stop", "length", ...
  int64_t num_tokens = 0;
  std::string answer;  ///< the reference answer; "" if the example has none
};

/// What a run leaves for people: metrics.jsonl, tensorboard/, completions.jsonl, environment.json,
/// config.yaml, report.html, and the progress on standard error. Rank 0 writes; the others only
/// send. Not thread-safe, except that the progress line gives way to log lines of any thread.
class RunRecorder final : public MetricsWriter {
 public:
  struct Options {
    std::filesystem::path output_dir;  ///< created if absent
    std::string run_name;              ///< "" takes the folder's name
    std::string algorithm;             ///< "grpo": shown in the report
    int64_t total_steps = 0;           ///< 0: not known
    /// Goes on after this step: later lines of metrics.jsonl and completions.jsonl are cut off, a
    /// damaged last line is dropped. Empty starts new files.
    std::optional<int64_t> resume_step;
    int64_t max_completions_per_step = 16;  ///< kept of each step of phase "train", over all ranks
    int64_t max_eval_completions = 64;      ///< the same for the other phases
    bool progress = true;                   ///< the line on standard error
    double log_interval_s = 0;  ///< least seconds between progress lines where there is no terminal
  };

  /// Opens the files of the run. Throws DataError if they cannot be written.
  RunRecorder(Options options, Communicator& comm);
  ~RunRecorder() override;
  RunRecorder(const RunRecorder&) = delete;
  RunRecorder& operator=(const RunRecorder&) = delete;

  /// Optimiser steps of the run, for the progress line and the report.
  void set_total_steps(int64_t total_steps);

  /// A key must have the same `reduce` on every rank and within a step (InternalError). A kMean
  /// whose weights sum to 0 has no value and is left out.
  void record(const std::string& key, double value, Reduce reduce = Reduce::kMean,
              double weight = 1.0) override;

  /// One collective for all metrics and completions; ranks may hold different keys. Adds
  /// `elapsed_s`, `memory/rss_mb`, `memory/peak_rss_mb`, and `tokens_per_s` where only the running
  /// total `num_tokens` was recorded. A number that is not finite is written as null and counted in
  /// `num_non_finite`. A second flush of the same step adds to its object.
  void flush(int64_t global_step) override;

  /// The reduced values of the last flush, the same on every rank (best-checkpoint decisions).
  const std::map<std::string, double>& last() const;

  /// Kept until the next flush; beyond the limit of its step and phase it is dropped.
  void record_completion(CompletionRecord completion);
  void record_completions(std::vector<CompletionRecord> completions);

  /// Names what the run is busy with ("generate", "update", "evaluate") in the progress line of a
  /// terminal; `done` of `total` if it can be counted.
  void stage(const std::string& name, int64_t done = 0, int64_t total = 0);

  /// config.yaml: the resolved recipe.
  void write_config(const std::string& yaml);
  /// environment.json: versions, processor, memory, commit, command line, processes, start time.
  void write_environment(const std::vector<std::string>& command_line);
  /// report.html of what was flushed so far; its path. Only rank 0 writes.
  std::filesystem::path write_report();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace meed
