#include <cmath>

#include "algorithms/evaluation.h"
#include "algorithms/policy.h"
#include "algorithms/step_evaluation.h"
#include "libpolicy/core/error.h"
#include "libpolicy/data/dataset.h"
#include "libreward/losses/regression.h"
#include "libreward/models/text_scorer.h"

namespace meed {
namespace {

/// Whether process reward models name the first wrong step of a solution (ProcessBench, Zheng et
/// al. 2024), on rows of steps and labels.
class FirstErrorF1 final : public Evaluation {
 public:
  struct Config {
    int64_t max_length = 1024;
    double threshold = 0.5;
    std::optional<ConfigNode> tune_on;
    void fields(FieldVisitor& v) {
      v.field("max_length", max_length, "Longer rows lose the start of their prompt.");
      v.field("threshold", threshold, "A step is called wrong below this probability.");
      v.component("tune_on", tune_on, datasets(),
                  "Rows on which each model's threshold is chosen, by F1, in place of `threshold`; "
                  "null: none.");
      v.require(max_length > 1, "max_length", "must be at least 2");
      v.require(threshold > 0 && threshold < 1, "threshold", "must be in (0, 1)");
    }
  };
  explicit FirstErrorF1(const Config& config) : config_(config) {}

  std::vector<EvaluationResult> run(const EvaluationRecipe& recipe, RunContext& context) override {
    const auto rows = read_rows(*recipe.data, "data", context);
    const auto tuning =
        config_.tune_on ? read_rows(*config_.tune_on, "tune_on", context) : std::vector<Example>{};
    std::vector<EvaluationResult> results;
    for (const auto& path : recipe.models) {
      const auto scorer =
          TextScorer::load(path, {.dtype = parse_dtype(recipe.dtype),
                                  .max_length = config_.max_length,
                                  .max_tokens_per_micro_batch = recipe.max_tokens_per_micro_batch});
      const double threshold =
          tuning.empty() ? config_.threshold : best_threshold(judge(*scorer, tuning, path));
      report(path, judge(*scorer, rows, path), threshold, results);
    }
    return results;
  }

 private:
  static std::vector<Example> read_rows(const ConfigNode& node, const std::string& key,
                                        RunContext& context) {
    const auto data = datasets().create(node, context);
    if (data->size() == 0) throw DataError(key + ": the dataset has no rows");
    std::vector<Example> rows;
    for (int64_t row = 0; row < data->size(); ++row) {
      rows.push_back(data->get(row));
      const auto& example = rows.back();
      if (example.completions.empty() || example.labels.size() != example.completions.size())
        throw DataError(key + ": row " + std::to_string(row + 1) +
                        ": first_error needs \"completions\" (the steps) and \"labels\", one for "
                        "each");
    }
    return rows;
  }

  static std::vector<JudgedSteps> judge(TextScorer& scorer, const std::vector<Example>& rows,
                                        const std::string& model) {
    std::vector<TextScorer::Text> texts;
    for (const auto& row : rows) texts.push_back({&row, {}});
    const auto scores = scorer.score(texts);
    std::vector<JudgedSteps> solutions;
    for (size_t i = 0; i < rows.size(); ++i) {
      if (scores[i].step_values.empty())
        throw ConfigError("models: " + model +
                          " gives no value to each step; first_error compares models of "
                          "pooling: steps");
      solutions.push_back({rows[i].labels, scores[i].step_values});
    }
    return solutions;
  }

  static void report(const std::string& model, const std::vector<JudgedSteps>& solutions,
                     double threshold, std::vector<EvaluationResult>& results) {
    const auto evaluation = evaluate_steps(solutions, threshold);
    const auto& first = evaluation.first_error;
    const double a = first.accuracy_erroneous, b = first.accuracy_correct;
    const auto variance = [](double share, int64_t count) {
      return count > 0 ? share * (1.0 - share) / static_cast<double>(count) : 0.0;
    };
    // The delta method: dF1/da = 2 b^2 / (a + b)^2.
    const double scale = a + b > 0.0 ? 2.0 / ((a + b) * (a + b)) : 0.0;
    const double half = kZ95 * scale *
                        std::sqrt(b * b * b * b * variance(a, first.erroneous) +
                                  a * a * a * a * variance(b, first.correct));
    results.push_back({model, "F1 of first errors", first.f1, first.f1 - half, first.f1 + half,
                       first.erroneous + first.correct});
    const auto share = [&](const char* metric, double value, int64_t count) {
      if (count == 0) return;
      const auto right = static_cast<int64_t>(std::llround(value * static_cast<double>(count)));
      results.push_back(summarise_share(model, metric, right, count));
    };
    share("first error named", a, first.erroneous);
    share("no error seen where there is none", b, first.correct);
    std::vector<double> right;
    std::vector<size_t> solution_of;
    for (size_t i = 0; i < solutions.size(); ++i) {
      const auto& [labels, p] = solutions[i];
      const size_t cut = labels.size() - p.size();
      for (size_t k = 0; k < p.size(); ++k) {
        if (labels[cut + k] == kMissingLabel) continue;
        right.push_back((p[k] > 0.5) == (labels[cut + k] > 0.5) ? 1.0 : 0.0);
        solution_of.push_back(i);
      }
    }
    if (!right.empty())
      results.push_back(clustered_share(model, "accuracy of steps", right, solution_of));
    results.push_back({model, "share of last steps among the least", evaluation.last_step_minimum,
                       std::nan(""), std::nan(""), static_cast<int64_t>(solutions.size())});
    results.push_back({model, "threshold", threshold, std::nan(""), std::nan(""),
                       static_cast<int64_t>(solutions.size())});
  }

  Config config_;
};

MEED_REGISTER(evaluations, "first_error", FirstErrorF1,
              "How well process reward models name the first wrong step (ProcessBench's F1).");

}  // namespace
}  // namespace meed
