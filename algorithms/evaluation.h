#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "algorithms/recipe.h"
#include "libpolicy/core/registry.h"
#include "libreward/reward_pipeline.h"

namespace meed {

/// One number of an evaluation with its 95 % confidence interval.
struct EvaluationResult {
  std::string model, metric;
  double value = 0.0, low = 0.0, high = 0.0;
  int64_t count = 0;
};

/// What a recipe's `evaluation.type` names.
class Evaluation {
 public:
  virtual ~Evaluation() = default;
  virtual std::vector<EvaluationResult> run(const struct EvaluationRecipe& recipe,
                                            RunContext& context) = 0;
};

Registry<Evaluation>& evaluations();

/// A recipe of `meed eval`.
struct EvaluationRecipe {
  std::string output_dir;
  int64_t seed = 42;
  std::vector<std::string> models;
  std::string dtype = "float32";
  std::optional<ConfigNode> evaluation, data;
  std::vector<ConfigNode> rewards;
  RolloutSection rollout;
  int64_t max_tokens_per_micro_batch = 4096;
  void fields(FieldVisitor& v);
  static EvaluationRecipe load(const std::filesystem::path& path,
                               const std::vector<std::string>& overrides);
};

/// Completions of every prompt by each of the recipe's models, and their scores.
void for_each_model(
    const EvaluationRecipe& recipe, RunContext& context,
    const std::function<void(const std::string& path, const std::vector<RolloutGroup>& groups,
                             const PipelineScores& scores)>& measure);

inline constexpr double kZ95 = 1.959964;  ///< two-sided 95 % of the normal distribution

/// What a model's values are above the first model's on the same rows, so that the rows' own
/// difficulty cancels.
std::vector<double> paired_differences(std::vector<double> values,
                                       const std::vector<double>& of_first);
/// Mean of values with mean +- 1.96 standard errors.
EvaluationResult summarise_mean(const std::string& model, const std::string& metric,
                                const std::vector<double>& values);
/// Mean of values that come in clusters (pairs of one prompt are not independent), by the number of
/// each one's cluster.
EvaluationResult clustered_mean(const std::string& model, const std::string& metric,
                                const std::vector<double>& values,
                                const std::vector<size_t>& cluster_of);
/// The same of values in [0, 1], with Wilson's interval at the number of independent values that
/// has the same standard error.
EvaluationResult clustered_share(const std::string& model, const std::string& metric,
                                 const std::vector<double>& right,
                                 const std::vector<size_t>& cluster_of);
/// Share of successes with Wilson's interval.
EvaluationResult summarise_share(const std::string& model, const std::string& metric,
                                 int64_t successes, int64_t count);

}  // namespace meed
