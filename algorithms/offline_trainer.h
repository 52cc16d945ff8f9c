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

/// A row as token ids: a prompt (may be empty) and the texts that follow it. Preference rows have
/// two: chosen, rejected.
struct EncodedRow {
  std::vector<int64_t> prompt_ids;
  std::vector<std::vector<int64_t>> completion_ids;
  std::optional<double> margin;
  bool truncated = false;

  int64_t num_tokens() const;
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
  /// Loss of some rows, divided by `normalizer`: the weight of all rows of the step on all ranks.
  virtual LossOutput loss(std::span<const EncodedRow> rows, double normalizer) = 0;
};

}  // namespace meed
