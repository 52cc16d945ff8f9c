#include <algorithm>
#include <cmath>

#include "libpolicy/core/error.h"
#include "libpolicy/text/answer.h"
#include "libreward/functions/columns.h"
#include "libreward/functions/unknown_length.h"
#include "libreward/reward_function.h"

namespace meed {
namespace {

/// Generalised length penalty (HARMO, Beyond monolithic rewards): with Lbar the mean length of a
/// group's right answers, -max_penalty * clip((|L - Lbar|/Lbar - tolerance) / (1 - tolerance), 0,
/// 1). 0 in a group without a right answer. Lengths are in tokens.
class GroupLengthPenalty final : public RewardFunction {
 public:
  struct Config {
    std::string answer_column = "answer";
    std::string mode = "both";
    double max_penalty = 0.5, tolerance = 0.2;
    void fields(FieldVisitor& v) {
      v.field("answer_column", answer_column, "Column of the dataset that holds the right answer.");
      v.choice("mode", mode, {"short", "long", "both"}, "Which deviations cost something.");
      v.field("max_penalty", max_penalty, "Largest cost.");
      v.field("tolerance", tolerance, "Relative deviation that costs nothing.");
      v.require(max_penalty > 0, "max_penalty", "must be positive");
      v.require(tolerance >= 0 && tolerance < 1, "tolerance", "must be in [0, 1)");
    }
  };
  explicit GroupLengthPenalty(const Config& config) : config_(config) {}

  std::vector<std::vector<Score>> score(std::span<const RolloutGroup> groups) override {
    std::vector<std::vector<Score>> scores;
    for (const auto& group : groups) scores.push_back(score_group(group));
    return scores;
  }

 private:
  std::vector<Score> score_group(const RolloutGroup& group) const {
    std::vector<Score> scores(group.completions.size());
    for (size_t g = 0; g < scores.size(); ++g)
      scores[g].unreadable = unknown_length(group.completions[g]);
    const auto right =
        extract_answer(column(group.example, config_.answer_column, "group_length_penalty"));
    if (!right)
      throw DataError("row " + std::to_string(group.example.row + 1) + ": column \"" +
                      config_.answer_column + "\" holds no number");
    double sum = 0.0, count = 0.0;
    for (const auto& completion : group.completions) {
      const auto given = extract_answer(completion.text);
      if (!given || !same_number(*right, *given)) continue;
      sum += static_cast<double>(completion.token_ids.size());
      count += 1.0;
    }
    if (count == 0.0 || sum == 0.0) return scores;
    const double mean = sum / count;
    for (size_t g = 0; g < scores.size(); ++g) {
      double deviation = static_cast<double>(group.completions[g].token_ids.size()) / mean - 1.0;
      if (config_.mode == "short") deviation = std::min(deviation, 0.0);
      if (config_.mode == "long") deviation = std::max(deviation, 0.0);
      const double excess = (std::abs(deviation) - config_.tolerance) / (1.0 - config_.tolerance);
      scores[g].value = -config_.max_penalty * std::clamp(excess, 0.0, 1.0);
    }
    return scores;
  }

  Config config_;
};

MEED_REGISTER(reward_functions, "group_length_penalty", GroupLengthPenalty,
              "Cost of lengths far from those of the group's right answers.");

}  // namespace
}  // namespace meed
