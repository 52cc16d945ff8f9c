#include "algorithms/reward_rows.h"

#include <charconv>
#include <cmath>

#include "algorithms/policy.h"
#include "libpolicy/core/error.h"
#include "libpolicy/data/dataset.h"
#include "libreward/losses/regression.h"

namespace meed {
namespace {

std::string where(const Example& example) {
  return "row " + std::to_string(example.row + 1) + ": ";
}

void note_group(const RewardRowOptions& options, const Example& example, EncodedRow& row) {
  if (options.group_by.empty()) return;
  const auto found = example.extra.find(options.group_by);
  if (found == example.extra.end())
    throw DataError(where(example) + "column \"" + options.group_by + "\" (group_by) is missing");
  row.group = found->second;
}

}  // namespace

EncodedRow encode_reward_pair(const Tokenizer& tokenizer, const RewardRowOptions& options,
                              const Example& example) {
  if (example.chosen.empty() || example.rejected.empty())
    throw DataError(where(example) +
                    "reward_modelling needs \"chosen\" and \"rejected\", neither of them empty");
  const auto encode = [&](const Content& side) {
    return encode_reward_text(tokenizer, options.format, options.reader, example, side);
  };
  auto chosen = encode(example.chosen), rejected = encode(example.rejected);
  if (chosen.completion_ids == rejected.completion_ids)
    throw DataError(where(example) + "\"chosen\" and \"rejected\" are the same");
  EncodedRow row{
      .prompt_ids = std::move(chosen.prompt_ids),
      .completion_ids = {std::move(chosen.completion_ids), std::move(rejected.completion_ids)},
      .margin = example.margin};
  if (row.margin && !std::isfinite(*row.margin))
    throw DataError(where(example) + "\"margin\" is not a finite number");
  row.truncated = truncate(row, options.max_length, /*keep_start=*/false);
  note_group(options, example, row);
  return row;
}

EncodedRow encode_reward_row(const Tokenizer& tokenizer, const RewardRowOptions& options,
                             const Example& example) {
  const bool steps = options.format.pooling == "steps";
  if (steps && (example.completions.empty() || example.labels.size() != example.completions.size()))
    throw DataError(where(example) +
                    "steps need \"completions\" (the steps) and \"labels\", one for each");
  if (!steps && example.completion.empty())
    throw DataError(where(example) + "needs \"completion\", not empty");
  auto text = encode_reward_text(tokenizer, options.format, options.reader, example,
                                 steps ? Content{} : example.completion);
  EncodedRow row;
  for (const double label : steps ? example.labels : std::vector<double>{}) {
    if (label != kMissingLabel && !(label >= 0.0 && label <= 1.0))
      throw DataError(where(example) + "a step's label must be in [0, 1], or -100 where it is " +
                      "missing, got " + std::to_string(label));
    row.labels.push_back(label);
  }
  const auto before = text.prompt_ids.size() + text.completion_ids.size();
  const auto dropped = truncate_reward_text(text, options.max_length);
  row.truncated = text.prompt_ids.size() + text.completion_ids.size() < before;
  if (steps) row.labels.erase(row.labels.begin(), row.labels.begin() + dropped);
  row.prompt_ids = std::move(text.prompt_ids);
  row.completion_ids = {std::move(text.completion_ids)};
  row.step_ends = std::move(text.step_ends);
  note_group(options, example, row);
  return row;
}

double preference_strength_of(const Example& example, double otherwise,
                              const std::string& loss_type) {
  const double strength = example.margin.value_or(otherwise);
  if (!std::isfinite(strength) || strength < 0.0)
    throw DataError(where(example) + "\"margin\" is " + std::to_string(strength) +
                    ", and loss_type " + loss_type +
                    " reads it as the preference's strength, which is not negative: \"chosen\" is "
                    "the side that wins. Labels whose sign says who wins are turned by the dataset "
                    "strength_labels (signed_margin: true)");
  if (!example.margin && strength == 0.0 && loss_type == "scaled")
    throw DataError(where(example) +
                    "\"margin\" is missing, and loss_type scaled weighs a row by it; set "
                    "algorithm.margin to the strength of rows without one");
  return strength;
}

double column_label(const Example& example, const std::string& name, bool needed) {
  const auto found = example.extra.find(name);
  if (found == example.extra.end()) {
    if (needed) throw DataError(where(example) + "column \"" + name + "\" is missing");
    return kMissingLabel;
  }
  const auto& text = found->second;
  if (text.empty() || text == "null") return kMissingLabel;
  if (text == "true" || text == "false") return text == "true" ? 1.0 : 0.0;
  double value = 0.0;
  const auto read = std::from_chars(text.data(), text.data() + text.size(), value);
  if (read.ec != std::errc() || read.ptr != text.data() + text.size() || !std::isfinite(value))
    throw DataError(where(example) + "column \"" + name + "\" holds \"" + text +
                    "\", not a number");
  return value;
}

void check_label_columns(const Dataset& data, const std::vector<std::string>& columns,
                         bool of_sides) {
  const auto has_label = [&](const Example& example, const std::string& name) {
    const auto in = [&](const std::string& column) {
      return column_label(example, column, /*needed=*/false) != kMissingLabel;
    };
    if (of_sides) return in("chosen_" + name) || in("rejected_" + name);
    return (name == "label" && example.label) || in(name);
  };
  std::vector<bool> found(columns.size(), false);
  size_t left = columns.size();
  for (int64_t i = 0; i < data.size() && left > 0; ++i) {
    const auto example = data.get(i);
    for (size_t c = 0; c < columns.size(); ++c) {
      if (found[c] || !has_label(example, columns[c])) continue;
      found[c] = true;
      --left;
    }
  }
  for (size_t c = 0; c < columns.size(); ++c)
    if (!found[c])
      throw DataError(
          "data: column \"" +
          (of_sides ? "chosen_" + columns[c] + "\" or \"rejected_" + columns[c] : columns[c]) +
          "\" has no label in any row: leave it out, or map the column that holds it");
}

}  // namespace meed
