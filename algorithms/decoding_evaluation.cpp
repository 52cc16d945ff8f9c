#include <ATen/ATen.h>

#include <cmath>

#include "algorithms/evaluation.h"
#include "libpolicy/core/error.h"
#include "libreward/decoding.h"
#include "libreward/reward_pipeline.h"

namespace meed {
namespace {

/// What reward-weighted decoding gains: of num_generations_eval samples a prompt, the gold reward
/// of one at random (its mean), of the best by reward, of a majority vote over the answers and of a
/// vote weighted by reward; oracle: of the best by gold.
class DecodingEvaluation final : public Evaluation {
 public:
  struct Config {
    std::string reward, gold;
    double temperature = 1.0;
    void fields(FieldVisitor& v) {
      v.field("reward", reward, "Name of the reward that chooses.");
      v.required("reward");
      v.field("gold", gold, "Name of the reward that tells how good the choice is.");
      v.required("gold");
      v.field("temperature", temperature,
              "Weighted vote: a sample's weight is exp(reward / temperature).");
      v.require(temperature > 0, "temperature", "must be positive");
    }
  };
  explicit DecodingEvaluation(const Config& config) : config_(config) {}

  std::vector<EvaluationResult> run(const EvaluationRecipe& recipe, RunContext& context) override {
    std::vector<EvaluationResult> results;
    for_each_model(recipe, context,
                   [&](const std::string& path, const std::vector<RolloutGroup>& groups,
                       const PipelineScores& scores) { measure(path, groups, scores, results); });
    return results;
  }

 private:
  const at::Tensor& component(const PipelineScores& scores, const std::string& name,
                              const char* key) const {
    const auto found = scores.components.find(name);
    if (found == scores.components.end())
      throw ConfigError(std::string("evaluation.") + key + ": \"" + name +
                        "\" names no reward of this recipe");
    return found->second;
  }

  void measure(const std::string& path, const std::vector<RolloutGroup>& groups,
               const PipelineScores& scores, std::vector<EvaluationResult>& results) const {
    const auto rewards_PG = component(scores, config_.reward, "reward").contiguous();
    const auto gold_PG = component(scores, config_.gold, "gold").contiguous();
    std::vector<double> single, best, majority, weighted, oracle;
    for (size_t p = 0; p < groups.size(); ++p) {
      const auto G = groups[p].completions.size();
      const auto row = static_cast<int64_t>(p);
      const std::span<const double> reward(rewards_PG[row].const_data_ptr<double>(), G);
      const std::span<const double> gold(gold_PG[row].const_data_ptr<double>(), G);
      std::vector<std::string> texts;
      for (const auto& completion : groups[p].completions) texts.push_back(completion.text);
      const auto give = [&](std::optional<size_t> choice, std::vector<double>& into) {
        // Nobody voted: the first sample is given.
        into.push_back(gold[choice.value_or(0)]);
      };
      single.push_back(gold_PG[row].nanmean().item<double>());
      give(best_of_n(reward), best);
      give(vote(texts, std::vector<double>(G, 1.0)), majority);
      give(vote(texts, vote_weights(reward, config_.temperature)), weighted);
      give(best_of_n(gold), oracle);
    }
    results.push_back(summarise_mean(path, "single", single));
    results.push_back(summarise_mean(path, "best_of_n", best));
    results.push_back(summarise_mean(path, "majority_vote", majority));
    results.push_back(summarise_mean(path, "weighted_vote", weighted));
    results.push_back(summarise_mean(path, "oracle", oracle));
  }
  Config config_;
};

MEED_REGISTER(evaluations, "decoding", DecodingEvaluation,
              "Best of N, majority and weighted vote by a reward against a gold reward.");

}  // namespace
}  // namespace meed
