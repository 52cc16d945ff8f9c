#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "algorithms/evaluation.h"
#include "algorithms/policy.h"
#include "algorithms/reward_inspection.h"
#include "libpolicy/core/error.h"
#include "libpolicy/core/ranking.h"
#include "libpolicy/data/dataset.h"
#include "libreward/models/fused_scorer.h"
#include "libreward/models/text_scorer.h"

namespace meed {
namespace {

/// How often reward models put the chosen text above the rejected one, side by side on the same
/// pairs. Intervals count the pairs of one prompt as one cluster; from the second model on, the
/// paired difference from the first stands beside each accuracy.
class PreferenceAccuracy final : public Evaluation {
 public:
  struct Config {
    int64_t max_length = 1024;
    std::vector<std::string> aggregates;
    FusionSection fusion;
    void fields(FieldVisitor& v) {
      v.field("max_length", max_length, "Longer rows lose the start of their prompt.");
      v.field("aggregates", aggregates,
              "Aggregates that ensembles are also shown by: mean, median, min, mean_minus_std.");
      v.section("fusion", fusion,
                "RewardFusion with the most similar texts of a dataset, for every model.");
      v.require(max_length > 1, "max_length", "must be at least 2");
      for (const auto& name : aggregates)
        v.require(name == "mean" || name == "median" || name == "min" || name == "mean_minus_std",
                  "aggregates", "names \"" + name + "\", which is none of them");
    }
  };
  explicit PreferenceAccuracy(const Config& config) : config_(config) {}

  std::vector<EvaluationResult> run(const EvaluationRecipe& recipe, RunContext& context) override {
    read_pairs(recipe, context);
    std::vector<EvaluationResult> results;
    std::vector<double> first;
    std::string first_name;
    for (const auto& path : recipe.models) {
      auto kinds =
          ensemble_members(path).empty() ? std::vector<std::string>{""} : config_.aggregates;
      if (kinds.empty()) kinds = {""};
      for (const auto& aggregate : kinds) {
        const auto name = aggregate.empty() ? path : path + " (" + aggregate + ")";
        const auto right = measure(path, aggregate, name, recipe, context, results);
        if (first_name.empty()) {
          first = right;
          first_name = name;
          continue;
        }
        results.push_back(clustered_mean(name, "accuracy less that of " + first_name,
                                         paired_differences(right, first), cluster_of_));
      }
    }
    return results;
  }

 private:
  void read_pairs(const EvaluationRecipe& recipe, RunContext& context) {
    const auto data = datasets().create(*recipe.data, context);
    if (data->size() == 0) throw DataError("data: the dataset has no rows");
    for (int64_t row = 0; row < data->size(); ++row) examples_.push_back(data->get(row));
    std::map<std::string, size_t> clusters;
    for (const auto& example : examples_) {
      if (example.chosen.empty() || example.rejected.empty())
        throw DataError("row " + std::to_string(example.row + 1) +
                        ": preference_accuracy needs \"chosen\" and \"rejected\", neither of them "
                        "empty");
      texts_.push_back({&example, example.chosen});
      texts_.push_back({&example, example.rejected});
      // A row without a prompt is a cluster of its own.
      const auto prompt = as_text(example.prompt, "\n");
      const auto key = prompt.empty() ? "\n" + std::to_string(example.row) : prompt;
      cluster_of_.push_back(clusters.emplace(key, clusters.size()).first->second);
    }
  }

  /// 1 where the chosen is preferred, 0.5 on a tie.
  std::vector<double> measure(const std::string& path, const std::string& aggregate,
                              const std::string& name, const EvaluationRecipe& recipe,
                              RunContext& context, std::vector<EvaluationResult>& results) const {
    const auto scorer = with_fusion(
        TextScorer::load(path, {.dtype = parse_dtype(recipe.dtype),
                                .max_length = config_.max_length,
                                .max_tokens_per_micro_batch = recipe.max_tokens_per_micro_batch,
                                .seed = static_cast<uint64_t>(recipe.seed),
                                .aggregate = aggregate}),
        config_.fusion, context);
    std::vector<double> right, margins, rewards, lengths, disagreements;
    std::vector<InspectedPair> pairs;
    for (const auto& each : scorer->compare(texts_)) {
      right.push_back(each.logit > 0 ? 1.0 : each.logit == 0 ? 0.5 : 0.0);
      margins.push_back(each.logit);
      pairs.push_back(
          {.logit = each.logit, .chosen = each.first.value, .rejected = each.second.value});
      rewards.insert(rewards.end(), {each.first.value, each.second.value});
      for (const auto* side : {&each.first, &each.second})
        if (const auto found = side->parts.find("disagreement"); found != side->parts.end())
          disagreements.push_back(found->second);
    }
    for (const auto& text : texts_)
      lengths.push_back(static_cast<double>(as_text(text.completion, "\n").size()));
    const auto count = static_cast<int64_t>(right.size());
    results.push_back(clustered_share(name, "accuracy", right, cluster_of_));
    results.push_back(clustered_mean(name, "margin", margins, cluster_of_));
    const double ece = expected_calibration_error(reliability(pairs));
    results.push_back({name, "calibration error", ece, std::nan(""), std::nan(""), count});
    // Fisher's transform.
    const double rho = rank_correlation(rewards, lengths), z = std::atanh(rho);
    const double half = rewards.size() > 3 && std::isfinite(z)
                            ? kZ95 / std::sqrt(static_cast<double>(rewards.size()) - 3.0)
                            : std::nan("");
    results.push_back({name, "reward-length rank correlation", rho, std::tanh(z - half),
                       std::tanh(z + half), 2 * count});
    if (!disagreements.empty())
      results.push_back(summarise_mean(name, "disagreement of members", disagreements));
    return right;
  }

  Config config_;
  std::vector<Example> examples_;  // before texts_ that point into it
  std::vector<TextScorer::Text> texts_;
  std::vector<size_t> cluster_of_;
};

MEED_REGISTER(evaluations, "preference_accuracy", PreferenceAccuracy,
              "How often reward models prefer the chosen text, side by side.");

}  // namespace
}  // namespace meed
