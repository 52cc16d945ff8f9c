#include <cmath>
#include <nlohmann/json.hpp>

#include "libpolicy/core/error.h"
#include "libpolicy/core/log.h"
#include "libreward/curation/wrapped_dataset.h"
#include "libreward/losses/process.h"

namespace meed {
namespace {

/// Labels of steps from what Monte Carlo and a judge say of each solution (Lessons of developing
/// PRMs): the share of completions from each step's prefix that reach the right answer, and the
/// first wrong step by the judge. The consensus keeps the solutions where the two name the same
/// first error, or both none.
class StepLabels final : public ListDataset {
 public:
  struct Config {
    std::optional<ConfigNode> data;
    std::string source = "consensus", shares_column = "monte_carlo", judge_column = "judge";
    double threshold = 0.0;
    bool soft = false;
    void fields(FieldVisitor& v) {
      v.component("data", data, datasets(), "Rows with \"completions\", the steps.");
      v.required("data");
      v.choice("source", source, {"monte_carlo", "judge", "consensus"},
               "Whose first error counts; consensus: rows on which both agree.");
      v.field("shares_column", shares_column,
              "Column with a list of numbers: of each step's prefix, the share of completions that "
              "reach the right answer.");
      v.field("judge_column", judge_column,
              "Column with the judge's first wrong step, from 1 on; 0 or empty: none.");
      v.field("threshold", threshold,
              "Monte Carlo calls a step wrong whose share is not above this.");
      v.field("soft", soft,
              "Labels are the shares, up to the first error; false: 1, and 0 on the first error.");
      v.require(threshold >= 0 && threshold < 1, "threshold", "must be in [0, 1)");
      v.require(!soft || source != "judge", "soft", "needs monte_carlo or consensus");
    }
  };
  StepLabels(const Config& config, RunContext& context) : config_(config) {
    const auto source = datasets().create(*config.data, context);
    for (int64_t i = 0; i < source->size(); ++i) {
      auto example = source->get(i);
      if (example.completions.empty())
        fail(example, "step_labels needs \"completions\", the steps");
      if (label(example)) rows_.push_back(std::move(example));
    }
    if (rows_.empty())
      throw DataError("step_labels: Monte Carlo and the judge agree on no solution");
    if (config.source == "consensus")
      log_info("step_labels: Monte Carlo and the judge agree on " + std::to_string(rows_.size()) +
               " of " + std::to_string(source->size()) + " solutions");
  }

 private:
  [[noreturn]] static void fail(const Example& example, const std::string& problem) {
    throw DataError("row " + std::to_string(example.row + 1) + ": " + problem);
  }

  /// False where the row is to be left out.
  bool label(Example& example) const {
    std::vector<double> shares;
    std::optional<int64_t> first_error, judged;
    if (config_.source != "judge") {
      shares = shares_of(example);
      first_error = first_error_of(shares, config_.threshold);
    }
    if (config_.source != "monte_carlo") judged = judged_of(example);
    if (config_.source == "consensus" && !consensus(first_error, judged)) return false;
    if (config_.source == "judge") first_error = judged;
    example.labels =
        labels_from_first_error(static_cast<int64_t>(example.completions.size()), first_error);
    const auto known =
        static_cast<size_t>(first_error.value_or(static_cast<int64_t>(example.completions.size())));
    for (size_t step = 0; config_.soft && step < known; ++step) example.labels[step] = shares[step];
    return true;
  }

  std::vector<double> shares_of(const Example& example) const {
    const auto found = example.extra.find(config_.shares_column);
    const auto list = found == example.extra.end()
                          ? nlohmann::json()
                          : nlohmann::json::parse(found->second, nullptr, false);
    std::vector<double> shares;
    if (list.is_array())
      for (const auto& each : list) shares.push_back(each.is_number() ? each.get<double>() : -1.0);
    if (shares.size() != example.completions.size())
      fail(example, "column \"" + config_.shares_column + "\": expected a list of " +
                        std::to_string(example.completions.size()) + " shares, one for each step");
    for (const double share : shares)
      if (!(share >= 0.0 && share <= 1.0))
        fail(example, "column \"" + config_.shares_column + "\": a share is in [0, 1]");
    return shares;
  }

  std::optional<int64_t> judged_of(const Example& example) const {
    const auto found = example.extra.find(config_.judge_column);
    if (found == example.extra.end())
      fail(example, "column \"" + config_.judge_column + "\" is missing");
    if (found->second.empty() || found->second == "null" || found->second == "0")
      return std::nullopt;
    const auto number = nlohmann::json::parse(found->second, nullptr, false);
    const auto count = static_cast<int64_t>(example.completions.size());
    if (!number.is_number_integer() || number.get<int64_t>() < 1 || number.get<int64_t>() > count)
      fail(example, "column \"" + config_.judge_column + "\" holds \"" + found->second +
                        "\", not a step from 1 to " + std::to_string(count) + ", or 0 for none");
    return number.get<int64_t>();
  }

  Config config_;
};

MEED_REGISTER(datasets, "step_labels", StepLabels,
              "Labels of steps from Monte Carlo, a judge, or where the two agree.");

}  // namespace
}  // namespace meed
