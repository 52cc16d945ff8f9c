#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "algorithms/algorithm.h"
#include "algorithms/learner.h"
#include "libpolicy/data/example.h"
#include "libpolicy/models/packed_batch.h"
#include "libpolicy/text/tokenizer.h"

namespace meed {

class Dataset;
struct VectorExample;

/// A row as token ids: a prompt (may be empty) and the texts that follow it. Preference rows have
/// two: chosen, rejected.
struct EncodedRow {
  std::vector<int64_t> prompt_ids;
  std::vector<std::vector<int64_t>> completion_ids;
  std::optional<double> margin;
  bool desirable = true;           ///< label of an unpaired preference
  std::vector<double> labels;      ///< of attributes or steps; kMissingLabel where there is none
  std::vector<int64_t> step_ends;  ///< places of the steps' last tokens in the first completion
  std::string group;               ///< what evaluations are split by; "" if by nothing
  /// sft: 1 on the tokens of prompt and completion that assistants wrote; empty: no such mask
  std::vector<uint8_t> assistant_mask;
  bool truncated = false;
  std::shared_ptr<const VectorExample> example;  ///< of algorithms that read vectors, not tokens

  int64_t num_tokens() const;
};

/// Sums over all rows of a step on all ranks: what losses divide by.
struct StepTotals {
  double weight = 0.0;        ///< of OfflineAlgorithm::weight
  double first_tokens = 0.0;  ///< tokens of the rows' first completions
  int64_t step = 0;           ///< updates done before this one
};

/// Chosen and rejected of a preference row, each with the prompt they share. Throws DataError if a
/// side is missing or empty, or both are the same.
EncodedRow encode_preference(const Tokenizer& tokenizer, const Example& example,
                             const std::string& algorithm);

/// What SFT, DPO and reward training add to the loop over a dataset.
class OfflineAlgorithm : public Algorithm {
 public:
  void train(TrainingRun& run) final;

  /// Loads the model (and the reference); called once before the first step.
  virtual TrainableModel prepare(TrainingRun& run) = 0;
  /// Throws DataError if the row lacks what the algorithm needs.
  virtual EncodedRow encode(const Example& example) = 0;
  /// The row's share of the loss's normaliser: target tokens, or 1 a pair.
  virtual double weight(const EncodedRow& row) const = 0;
  /// Sees this rank's rows of a step before their losses; all ranks call it together.
  virtual void begin_step(std::span<const EncodedRow>) {}
  /// Around the losses of an evaluation; all ranks call them together. What `end_evaluation`
  /// records carries the prefix eval_ by its own hand.
  virtual void begin_evaluation() {}
  virtual void end_evaluation(TrainingRun&, int64_t /*step*/) {}
  /// Loss of some rows, divided by a count over the whole step.
  virtual LossOutput loss(std::span<const EncodedRow> rows, const StepTotals& totals) = 0;
  /// Between the last backward of a step and its update; all ranks call it.
  virtual void before_update() {}
  /// Metrics of the whole of eval_data that do not add up over rows, recorded with their prefix.
  /// Every rank calls it with all rows.
  virtual void evaluate(const Dataset&, MetricsWriter&) {}
  /// Runs after update number `step`; all ranks call it.
  virtual void after_update(int64_t /*step*/) {}
};

}  // namespace meed
