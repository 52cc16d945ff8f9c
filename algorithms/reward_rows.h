#pragma once

#include <string>
#include <vector>

#include "algorithms/offline_trainer.h"
#include "libreward/models/reward_text.h"

namespace meed {

/// How rows of a dataset become what a reward model learns from.
struct RewardRowOptions {
  RewardFormat format;
  RewardReader reader = RewardReader::kDecoder;
  int64_t max_length = 1024;
  std::string group_by;  ///< column whose values evaluations are split by; "": none
};

/// Chosen and rejected, each with the prompt they share. Throws DataError if a side is missing or
/// empty, or both are the same.
EncodedRow encode_reward_pair(const Tokenizer& tokenizer, const RewardRowOptions& options,
                              const Example& example);
/// A completion, or the steps of a stepwise row with their labels. Throws DataError if there is
/// none, or a step has no label.
EncodedRow encode_reward_row(const Tokenizer& tokenizer, const RewardRowOptions& options,
                             const Example& example);

/// The strength |m| of a preference for the losses margin and scaled (HelpSteer2-Preference): the
/// row's margin, `otherwise` where it has none. Throws DataError if it is negative, since the sides
/// say already who wins, and where scaled would weigh a row without one by 0.
double preference_strength_of(const Example& example, double otherwise,
                              const std::string& loss_type);

/// The number in a column; kMissingLabel where the cell is empty, null or, unless `needed`, absent.
/// Throws DataError if it is no finite number.
double column_label(const Example& example, const std::string& name, bool needed = true);

/// Throws DataError naming the first column that has no label in any row of the data: what it is
/// named for would never be learnt. With `of_sides` a column NAME stands for chosen_NAME and
/// rejected_NAME.
void check_label_columns(const class Dataset& data, const std::vector<std::string>& columns,
                         bool of_sides = false);

}  // namespace meed
