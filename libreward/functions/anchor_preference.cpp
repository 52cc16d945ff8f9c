#include <algorithm>
#include <cmath>

#include "libreward/functions/columns.h"
#include "libreward/judges/pairwise_judge.h"
#include "libreward/reward_function.h"

namespace meed {
namespace {

/// Pairwise-RL: how much a completion is preferred to the row's anchor, symmetrised over both
/// orders, p = (P(y over anchor) + 1 - P(anchor over y)) / 2. probability: p - 1/2; logit:
/// ln(p / (1 - p)) within +-max_logit; level: 1 (clearly worse) to 5 (clearly better) of ExTrans,
/// divided by 5.
class AnchorPreference final : public RewardFunction {
 public:
  struct Config {
    std::optional<ConfigNode> judge;
    std::string anchor_column = "anchor";
    std::string scale = "probability";
    double max_logit = 5.0;
    std::vector<double> level_bounds = {0.1, 0.4, 0.6, 0.9};
    std::string answer_tag;
    void fields(FieldVisitor& v) {
      v.component("judge", judge, pairwise_judges(), "Who compares with the anchor.");
      v.required("judge");
      v.field("anchor_column", anchor_column,
              "Column with the text that all completions of the row are compared with.");
      v.choice("scale", scale, {"probability", "logit", "level"}, "What the preference becomes.");
      v.field("max_logit", max_logit, "Bound of the logit.");
      v.field("level_bounds", level_bounds,
              "Probabilities above which the level is 2, 3, 4 and 5 (3 is a tie).");
      v.field("answer_tag", answer_tag,
              "Compare the inside of this tag; a completion without it is unreadable. Empty: all.");
      v.require(max_logit > 0, "max_logit", "must be positive");
      v.require(level_bounds.size() == 4 && std::is_sorted(level_bounds.begin(), level_bounds.end()),
                "level_bounds", "must be four rising numbers");
    }
  };
  AnchorPreference(const Config& config, RunContext& context)
      : config_(config), judge_(pairwise_judges().create(*config.judge, context)) {}

  std::vector<std::vector<Score>> score(std::span<const RolloutGroup> groups) override {
    std::vector<std::vector<Score>> scores;
    std::vector<JudgeQuery> queries;
    std::vector<Score*> asked;
    for (const auto& group : groups) scores.emplace_back(group.completions.size());
    for (size_t p = 0; p < groups.size(); ++p) {
      const auto& anchor = column(groups[p].example, config_.anchor_column, "anchor_preference");
      for (size_t g = 0; g < groups[p].completions.size(); ++g) {
        std::string_view text = groups[p].completions[g].text;
        if (!config_.answer_tag.empty()) {
          const auto block = only_block(text, config_.answer_tag);
          if (!block) {
            scores[p][g] = {.value = worst(), .unreadable = "no_" + config_.answer_tag};
            continue;
          }
          text = *block;
        }
        queries.push_back({&groups[p].example, text, anchor});
        asked.push_back(&scores[p][g]);
      }
    }
    std::vector<double> position_bias;
    const auto verdicts = judge_both_orders(*judge_, queries, &position_bias);
    for (size_t i = 0; i < asked.size(); ++i) {
      if (!std::isnan(position_bias[i])) asked[i]->parts["position_bias"] = position_bias[i];
      const bool read = !std::isnan(verdicts[i]);
      asked[i]->value = scaled(read ? verdicts[i] : 0.5);
      if (!read) asked[i]->unreadable = "no_verdict";
    }
    return scores;
  }

 private:
  double scaled(double p) const {
    if (config_.scale == "probability") return p - 0.5;
    if (config_.scale == "logit")
      return std::clamp(std::log(p) - std::log1p(-p), -config_.max_logit, config_.max_logit);
    double level = 1.0;
    const auto& bounds = config_.level_bounds;
    // A tie on a bound belongs to the middle level.
    for (size_t i = 0; i < 4; ++i) level += i < 2 ? p >= bounds[i] : p > bounds[i];
    return level / 5.0;
  }
  double worst() const { return config_.scale == "level" ? 0.0 : scaled(0.0); }

  Config config_;
  std::unique_ptr<PairwiseJudge> judge_;
};

MEED_REGISTER(reward_functions, "anchor_preference", AnchorPreference,
              "Preference to the row's anchor text (Pairwise-RL), or its level (ExTrans).");

}  // namespace
}  // namespace meed
