#include <algorithm>
#include <cmath>

#include "libreward/judges/pairwise_judge.h"
#include "libreward/reward_function.h"

namespace meed {
namespace {

/// A completion's mean score against its group, itself included: s_i = sum_j S_ij / K, with S_ij
/// the judge's log-odds that i is better than j, within +-max_score, or its probability less 1/2
/// (GPO, Zhang et al. 2024). Judged in both orders, so that the scores of a group sum to 0.
class PreferenceScore final : public RewardFunction {
 public:
  struct Config {
    std::optional<ConfigNode> judge;
    std::string scale = "logit";
    double max_score = 1000.0;
    void fields(FieldVisitor& v) {
      v.component("judge", judge, pairwise_judges(), "Who compares two completions.");
      v.required("judge");
      v.choice("scale", scale, {"logit", "probability"},
               "The judge's log-odds, or its probability less 1/2.");
      v.field("max_score", max_score, "Bound of a score.");
      v.require(max_score > 0, "max_score", "must be positive");
    }
  };
  PreferenceScore(const Config& config, RunContext& context)
      : config_(config), judge_(pairwise_judges().create(*config.judge, context)) {}

  std::vector<std::vector<Score>> score(std::span<const RolloutGroup> groups) override {
    std::vector<JudgeQuery> queries;
    for (const auto& group : groups)
      for (size_t i = 0; i < group.completions.size(); ++i)
        for (size_t j = i + 1; j < group.completions.size(); ++j)
          queries.push_back({&group.example, group.completions[i].text, group.completions[j].text});
    const auto verdicts = judge_both_orders(*judge_, queries);
    std::vector<std::vector<Score>> scores;
    size_t q = 0;
    for (const auto& group : groups) {
      const size_t K = group.completions.size();
      auto& row = scores.emplace_back(K);
      for (size_t i = 0; i < K; ++i)
        for (size_t j = i + 1; j < K; ++j, ++q) {
          const double value = scaled(verdicts[q]) / static_cast<double>(K);
          row[i].value += value;
          row[j].value -= value;
          if (std::isnan(verdicts[q])) row[i].unreadable = row[j].unreadable = "no_verdict";
        }
    }
    return scores;
  }

 private:
  double scaled(double p) const {
    if (std::isnan(p)) return 0.0;
    const double score = config_.scale == "logit" ? std::log(p) - std::log1p(-p) : p - 0.5;
    return std::clamp(score, -config_.max_score, config_.max_score);
  }
  Config config_;
  std::unique_ptr<PairwiseJudge> judge_;
};

MEED_REGISTER(reward_functions, "preference_score", PreferenceScore,
              "Mean score against the group by a judge, the target of GPO.");

}  // namespace
}  // namespace meed
