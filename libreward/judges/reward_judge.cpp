#include <cmath>
#include <map>

#include "libpolicy/text/tokenizer.h"
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
      inner_reward(v, "reward", reward, "What scores the two.");
      v.required("reward");
      v.field("temperature", temperature, "Divides the difference of the scores.");
      v.field("tie_band", tie_band, "Differences up to this are a tie.");
      v.field("hard", hard, "1 or 0 instead of a probability.");
      v.require(temperature > 0, "temperature", "must be positive");
      v.require(tie_band >= 0, "tie_band", "must not be negative");
    }
  };
  RewardJudge(const Config& config, RunContext& context)
      : config_(config),
        function_(reward_functions().create(*config.reward, context)),
        tokenizer_(context.tokenizer) {}

  std::vector<double> judge(std::span<const JudgeQuery> queries) override {
    // Each text of a prompt is scored once, however many pairs it stands in; all prompts together.
    std::map<const Example*, std::map<std::string_view, double>> values;
    std::vector<const Example*> order;
    for (const auto& query : queries) {
      auto& texts = values[query.example];
      if (texts.empty()) order.push_back(query.example);
      texts[query.first];
      texts[query.second];
    }
    std::vector<RolloutGroup> groups;
    for (const auto* example : order) {
      groups.push_back({.example = *example});
      for (const auto& [text, value] : values[example]) {
        auto& completion = groups.back().completions.emplace_back();
        completion.text = text;
        if (tokenizer_ != nullptr) completion.token_ids = tokenizer_->encode(text);
      }
    }
    const auto scores = function_->score(groups);
    for (size_t p = 0; p < order.size(); ++p) {
      size_t i = 0;
      for (auto& [text, value] : values[order[p]]) value = scores[p][i++].value;
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
  const Tokenizer* tokenizer_;
};

MEED_REGISTER(pairwise_judges, "reward", RewardJudge,
              "Compares the scores of any reward function, with a band of ties.");

}  // namespace
}  // namespace meed
