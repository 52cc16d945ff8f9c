#include <cmath>

#include "libreward/judges/pairwise_judge.h"
#include "libreward/reward_function.h"

namespace meed {
namespace {

/// Pref-GRPO (Wang et al. 2025): every pair of a group is judged, w_i = wins_i / (G - 1) in [0, 1]
/// with mean 1/2. A preference counts 1 for the better one, a tie or an unreadable verdict 1/2 for
/// both; with `soft` the judge's probability itself.
class WinRate final : public RewardFunction {
 public:
  struct Config {
    std::optional<ConfigNode> judge;
    bool both_orders = true, soft = false;
    void fields(FieldVisitor& v) {
      v.component("judge", judge, pairwise_judges(), "Who compares two completions.");
      v.required("judge");
      v.field("both_orders", both_orders,
              "Ask for (a, b) and (b, a) and take the mean; else once, the earlier sample first.");
      v.field("soft", soft, "Sum the judge's probabilities instead of wins and ties.");
    }
  };
  WinRate(const Config& config, RunContext& context)
      : config_(config), judge_(pairwise_judges().create(*config.judge, context)) {}

  std::vector<std::vector<Score>> score(std::span<const RolloutGroup> groups) override {
    std::vector<JudgeQuery> queries;
    for (const auto& group : groups)
      for (size_t i = 0; i < group.completions.size(); ++i)
        for (size_t j = i + 1; j < group.completions.size(); ++j)
          queries.push_back({&group.example, group.completions[i].text, group.completions[j].text});
    const auto verdicts =
        config_.both_orders ? judge_both_orders(*judge_, queries) : judge_->judge(queries);
    std::vector<std::vector<Score>> scores;
    size_t q = 0;
    for (const auto& group : groups) {
      const size_t G = group.completions.size();
      auto& row = scores.emplace_back(G);
      // One completion alone has nobody to win over.
      if (G == 1) row[0].value = 0.5;
      for (size_t i = 0; i < G; ++i)
        for (size_t j = i + 1; j < G; ++j, ++q) {
          const double win = win_of(verdicts[q]);
          row[i].value += win / static_cast<double>(G - 1);
          row[j].value += (1.0 - win) / static_cast<double>(G - 1);
          if (std::isnan(verdicts[q])) row[i].unreadable = row[j].unreadable = "no_verdict";
        }
    }
    return scores;
  }

 private:
  double win_of(double verdict) const {
    if (std::isnan(verdict)) return 0.5;
    if (config_.soft) return verdict;
    return verdict > 0.5 ? 1.0 : verdict < 0.5 ? 0.0 : 0.5;
  }
  Config config_;
  std::unique_ptr<PairwiseJudge> judge_;
};

MEED_REGISTER(reward_functions, "win_rate", WinRate,
              "Share of a group's other completions that this one beats (Pref-GRPO).");

}  // namespace
}  // namespace meed
