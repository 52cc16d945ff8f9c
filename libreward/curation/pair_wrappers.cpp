#include <algorithm>
#include <charconv>
#include <cmath>
#include <nlohmann/json.hpp>

#include "libpolicy/core/error.h"
#include "libpolicy/data/dataset.h"
#include "libreward/curation/wrapped_dataset.h"

// Datasets made of another dataset's preference rows: which side wins by how much, rows of one side
// each, critiques.
namespace meed {
namespace {

std::string where(const Example& example) {
  return "row " + std::to_string(example.row + 1) + ": ";
}

double number_in(const Example& example, const std::string& column) {
  const auto found = example.extra.find(column);
  if (found == example.extra.end())
    throw DataError(where(example) + "column \"" + column + "\" is missing");
  double value = 0.0;
  const auto& text = found->second;
  const auto read = std::from_chars(text.data(), text.data() + text.size(), value);
  if (read.ec != std::errc() || read.ptr != text.data() + text.size() || !std::isfinite(value))
    throw DataError(where(example) + "column \"" + column + "\" holds \"" + text +
                    "\", not a number");
  return value;
}

/// Every pair of a ranked list (MM-RLHF): rows with `completions` and a score of each in `labels`;
/// each pair of unequal scores becomes a preference row.
class RankedPairs final : public ListDataset {
 public:
  struct Config {
    std::optional<ConfigNode> data;
    double least_gap = 0.0;
    bool gap_as_margin = false;
    void fields(FieldVisitor& v) {
      v.component("data", data, datasets(),
                  "Rows with a prompt, completions and their scores as labels; more is better.");
      v.required("data");
      v.field("least_gap", least_gap, "Pairs whose scores are no further apart are left out.");
      v.field("gap_as_margin", gap_as_margin, "Put the difference of the scores into margin.");
      v.require(least_gap >= 0, "least_gap", "must not be negative");
    }
  };
  RankedPairs(const Config& config, RunContext& context) {
    const auto source = datasets().create(*config.data, context);
    for (int64_t i = 0; i < source->size(); ++i) {
      const auto example = source->get(i);
      if (example.completions.size() < 2 || example.labels.size() != example.completions.size())
        throw DataError(where(example) +
                        "ranked_pairs needs two \"completions\" or more, and a score of each in "
                        "\"labels\"");
      for (size_t a = 0; a < example.completions.size(); ++a)
        for (size_t b = 0; b < example.completions.size(); ++b)
          if (example.labels[a] - example.labels[b] > config.least_gap &&
              example.completions[a] != example.completions[b])
            add(config, example, a, b);
    }
    if (rows_.empty()) throw DataError("ranked_pairs: no two scores of a row differ");
  }

 private:
  void add(const Config& config, const Example& example, size_t better, size_t worse) {
    Example pair = example;
    pair.completions.clear();
    pair.labels.clear();
    pair.chosen = side_of(example.prompt, example.completions[better]);
    pair.rejected = side_of(example.prompt, example.completions[worse]);
    if (config.gap_as_margin) pair.margin = example.labels[better] - example.labels[worse];
    pair.extra["group"] = std::to_string(example.row);
    rows_.push_back(std::move(pair));
  }
};

/// The pair with its sides in each other's place, columns named chosen_ and rejected_ included.
Example turned(Example example) {
  std::swap(example.chosen, example.rejected);
  std::map<std::string, std::string> columns;
  for (auto& [name, text] : example.extra) {
    auto other = name;
    if (name.starts_with("chosen_")) other = "rejected_" + name.substr(7);
    if (name.starts_with("rejected_")) other = "chosen_" + name.substr(9);
    columns[other] = std::move(text);
  }
  example.extra = std::move(columns);
  return example;
}

/// Strengths |m| of preferences (HelpSteer2-Preference) from two columns of scores: the bucket that
/// their difference falls into goes into margin; a pair whose scores say the opposite is turned. Or
/// from a margin whose sign says which side wins, -3 to 3 in their data.
class StrengthLabels final : public ListDataset {
 public:
  struct Config {
    std::optional<ConfigNode> data;
    std::string chosen_column = "chosen_score", rejected_column = "rejected_score";
    std::vector<double> thresholds = {1.0, 2.0};
    bool drop_ties = true, signed_margin = false;
    void fields(FieldVisitor& v) {
      v.component("data", data, datasets(), "Preference rows with a score of each side.");
      v.required("data");
      v.field("chosen_column", chosen_column, "Column with the chosen side's score.");
      v.field("rejected_column", rejected_column, "Column with the rejected side's score.");
      v.field("thresholds", thresholds,
              "Differences above each raise the strength by one; at least 1.");
      v.field("drop_ties", drop_ties,
              "Leave pairs of equal scores, or of margin 0, out; otherwise they keep their side at "
              "strength 0.");
      v.field("signed_margin", signed_margin,
              "Read no scores: the column margin holds the strength, above 0 where the first side "
              "(chosen) wins, below 0 where the other one does; then the pair is turned.");
      v.require(std::is_sorted(thresholds.begin(), thresholds.end()), "thresholds", "must rise");
    }
  };
  StrengthLabels(const Config& config, RunContext& context) {
    const auto source = datasets().create(*config.data, context);
    for (int64_t i = 0; i < source->size(); ++i) {
      auto example = source->get(i);
      require_pair(example, "strength_labels");
      const double gap = config.signed_margin ? margin_of(example)
                                              : number_in(example, config.chosen_column) -
                                                    number_in(example, config.rejected_column);
      if (gap == 0.0 && config.drop_ties) continue;
      if (gap < 0.0) example = turned(std::move(example));
      double strength = gap == 0.0 ? 0.0 : 1.0;
      for (const double threshold : config.thresholds) strength += std::abs(gap) > threshold;
      example.margin = config.signed_margin ? std::abs(gap) : strength;
      rows_.push_back(std::move(example));
    }
    if (rows_.empty()) throw DataError("strength_labels: all scores are equal");
  }

 private:
  static double margin_of(const Example& example) {
    if (!example.margin || !std::isfinite(*example.margin))
      throw DataError(where(example) + "signed_margin needs a number in \"margin\"");
    return *example.margin;
  }
};

/// Each side of a preference row as a labelled completion: what a regression or a verifier learns
/// from.
class LabelledSides final : public ListDataset {
 public:
  struct Config {
    std::optional<ConfigNode> data;
    std::string column = "score";
    void fields(FieldVisitor& v) {
      v.component("data", data, datasets(), "Preference rows.");
      v.required("data");
      v.field("column", column, "Column that holds 1 for chosen and 0 for rejected sides.");
    }
  };
  LabelledSides(const Config& config, RunContext& context) {
    const auto source = datasets().create(*config.data, context);
    for (int64_t i = 0; i < source->size(); ++i) {
      const auto example = source->get(i);
      require_pair(example, "labelled_sides");
      for (const bool chosen : {true, false}) {
        Example row = example;
        row.completion = chosen ? example.chosen : example.rejected;
        row.chosen = row.rejected = {};
        row.label = chosen;
        row.extra[config.column] = chosen ? "1" : "0";
        rows_.push_back(std::move(row));
      }
    }
  }
};

/// Critiques from templates (MM-RLHF): a sentence for each fault that a column lists (a JSON array
/// of names), or one that says there is none; into chosen_critique and rejected_critique.
class CritiqueTemplates final : public ListDataset {
 public:
  struct Config {
    std::optional<ConfigNode> data;
    std::string faults = "faults", sentence = " {fault} is wrong.", no_fault = " Nothing is wrong.";
    void fields(FieldVisitor& v) {
      v.component("data", data, datasets(),
                  "Preference rows with chosen_FAULTS and rejected_FAULTS.");
      v.required("data");
      v.field("faults", faults, "The columns' names behind chosen_ and rejected_.");
      v.field("sentence", sentence, "A fault's sentence; {fault} is its name.");
      v.field("no_fault", no_fault, "The critique of a side without faults.");
      v.require(sentence.find("{fault}") != std::string::npos, "sentence", "must hold {fault}");
    }
  };
  CritiqueTemplates(const Config& config, RunContext& context) {
    const auto source = datasets().create(*config.data, context);
    for (int64_t i = 0; i < source->size(); ++i) {
      auto example = source->get(i);
      for (const std::string side : {"chosen_", "rejected_"})
        example.extra[side + "critique"] = critique(config, example, side + config.faults);
      rows_.push_back(std::move(example));
    }
  }

 private:
  static std::string critique(const Config& config, const Example& example,
                              const std::string& column) {
    const auto found = example.extra.find(column);
    const auto list = found == example.extra.end()
                          ? nlohmann::json()
                          : nlohmann::json::parse(found->second, nullptr, false);
    if (!list.is_array())
      throw DataError(where(example) + "column \"" + column + "\": expected a JSON array of names");
    std::string text;
    for (const auto& fault : list) {
      if (!fault.is_string())
        throw DataError(where(example) + "column \"" + column + "\": a fault is no string");
      auto sentence = config.sentence;
      sentence.replace(sentence.find("{fault}"), 7, fault.get<std::string>());
      text += sentence;
    }
    return text.empty() ? config.no_fault : text;
  }
};

MEED_REGISTER(datasets, "ranked_pairs", RankedPairs, "Every pair of a ranked list.");
MEED_REGISTER(datasets, "strength_labels", StrengthLabels,
              "Pairs with strengths from two columns of scores.");
MEED_REGISTER(datasets, "labelled_sides", LabelledSides,
              "Both sides of each pair as completions labelled right and wrong.");
MEED_REGISTER(datasets, "critique_templates", CritiqueTemplates,
              "Pairs with critiques from a list of faults.");

}  // namespace
}  // namespace meed
