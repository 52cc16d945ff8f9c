#include <cmath>
#include <map>

#include "libreward/judges/pairwise_judge.h"
#include "libreward/reward_function.h"

namespace meed {
namespace {

/// Compares the scores of a reward function: sigmoid((r1 - r2) / temperature), or with `hard` 1
/// and 0; a tie within `tie_band`.
class RewardJudge final : public PairwiseJudge {
 public:
  struct Config {
    std::optional<ConfigNode> reward;
    double temperature = 1.0, tie_band = 0.0;
    bool hard = false;
    void fields(FieldVisitor& v) {
      v.component("reward", reward, reward_functions(), "What scores the two.");
      v.required("reward");
      v.field("temperature", temperature, "Divides the difference of the scores.");
      v.field("tie_band", tie_band, "Differences up to this are a tie.");
      v.field("hard", hard, "1 or 0 instead of a probability.");
      v.require(temperature > 0, "temperature", "must be positive");
      v.require(tie_band >= 0, "tie_band", "must not be negative");
    }
  };
  RewardJudge(const Config& config, RunContext& context)
      : config_(config), function_(reward_functions().create(*config.reward, context)) {}

  std::vector<double> judge(std::span<const JudgeQuery> queries) override {
    // Each text of a prompt is scored once, however many pairs it stands in.
    std::map<const Example*, std::map<std::string_view, double>> values;
    for (const auto& query : queries) {
      values[query.example][query.first];
      values[query.example][query.second];
    }
    for (auto& [example, texts] : values) {
      RolloutGroup group{.example = *example};
      for (const auto& [text, value] : texts) group.completions.emplace_back().text = text;
      const auto scores = function_->score({&group, 1});
      size_t i = 0;
      for (auto& [text, value] : texts) value = scores[0][i++].value;
    }
    std::vector<double> verdicts;
    for (const auto& query : queries) {
      const auto& texts = values.at(query.example);
      const double difference = texts.at(query.first) - texts.at(query.second);
      verdicts.push_back(verdict(difference));
    }
    return verdicts;
  }

 private:
  double verdict(double difference) const {
    if (std::isnan(difference)) return difference;
    if (std::abs(difference) <= config_.tie_band) return 0.5;
    if (config_.hard) return difference > 0 ? 1.0 : 0.0;
    return 1.0 / (1.0 + std::exp(-difference / config_.temperature));
  }
  Config config_;
  std::unique_ptr<RewardFunction> function_;
};

MEED_REGISTER(pairwise_judges, "reward", RewardJudge,
              "Compares the scores of any reward function, with a band of ties.");

}  // namespace
}  // namespace meed
