#include <re2/re2.h>

#include <algorithm>

#include "libpolicy/core/error.h"
#include "libreward/functions/columns.h"
#include "libreward/reward_function.h"

namespace meed {
namespace {

/// R1-Reward (Zhang et al. 2025): R_acc (1 + c R_cons) + f R_fmt of a judge that thinks and then
/// names the better of two responses. R_acc: the <answer> is the row's. R_cons: the verdict of the
/// reasoning's last lines and the answer agree (1), differ (-1; 0 if not signed), or there is no
/// verdict (0). R_fmt: exactly one <think> and, behind it, one <answer>.
class R1Reward final : public PointwiseReward {
 public:
  struct Config {
    std::string answer_column = "answer";
    double consistency_weight = 0.5, format_weight = 0.5;
    bool signed_consistency = true;
    int64_t verdict_lines = 3;
    std::string verdict_pattern =
        "(?i)\\b(?:response|answer|option|text)?\\s*#?([0-9]+|[AB]\\b)\\)?\\s+(?:is|was|seems|"
        "looks)?\\s*"
        "(?:clearly |much |slightly |the )?(?:better|best|stronger|preferable|preferred|wins)\\b";
    void fields(FieldVisitor& v) {
      v.field("answer_column", answer_column, "Column with the name of the better response.");
      v.field("consistency_weight", consistency_weight, "c.");
      v.field("format_weight", format_weight, "f.");
      v.field(
          "signed_consistency", signed_consistency,
          "Reasoning that contradicts the answer counts -1, as the code; false: 0, as the text.");
      v.field("verdict_lines", verdict_lines, "Last lines of the reasoning that hold its verdict.");
      v.field("verdict_pattern", verdict_pattern,
              "Regular expression (RE2) of a verdict; its first group names the response. The last "
              "match counts.");
      v.require(verdict_lines > 0, "verdict_lines", "must be positive");
      const re2::RE2 pattern(verdict_pattern, re2::RE2::Quiet);
      v.require(
          pattern.ok() && pattern.NumberOfCapturingGroups() > 0, "verdict_pattern",
          pattern.ok() ? "must have a group" : "is not a regular expression: " + pattern.error());
    }
  };
  explicit R1Reward(const Config& config)
      : config_(config), pattern_(config.verdict_pattern, re2::RE2::Quiet) {}

 private:
  Score score_one(const Example& example, const Completion& completion) override {
    const auto& wanted = column(example, config_.answer_column, "r1_reward");
    const auto think = only_block(completion.text, "think");
    const auto block = only_block(completion.text, "answer");
    Score score;
    if (!block)
      score.unreadable = "no_answer";
    else if (!think)
      score.unreadable = "no_think";
    const std::string given = block ? std::string(trimmed(*block)) : "";
    const double accuracy = block && given == trimmed(wanted) ? 1.0 : 0.0;
    // The tags pair up: the reasoning ends before the answer begins.
    const double form = think && block && think->data() + think->size() < block->data() ? 1.0 : 0.0;
    if (score.unreadable.empty() && form == 0.0) score.unreadable = "tags_out_of_order";
    const double consistency = think && block ? agreement(*think, given) : 0.0;
    score.parts = {{"accuracy", accuracy}, {"format", form}, {"consistency", consistency}};
    score.value =
        accuracy * (1.0 + config_.consistency_weight * consistency) + config_.format_weight * form;
    return score;
  }

  double agreement(std::string_view think, const std::string& given) const {
    size_t begin = think.size();
    while (begin > 0 && is_blank(think.substr(begin - 1))) --begin;
    for (int64_t line = 0; line < config_.verdict_lines && begin > 0; ++line) {
      const size_t end = think.rfind('\n', begin - 1);
      begin = end == std::string_view::npos ? 0 : end;
    }
    re2::StringPiece rest(think.data() + begin, think.size() - begin);
    std::string match, verdict;
    while (re2::RE2::FindAndConsume(&rest, pattern_, &match)) verdict = match;
    if (verdict.empty()) return 0.0;
    if (verdict == given) return 1.0;
    return config_.signed_consistency ? -1.0 : 0.0;
  }

  static std::string_view trimmed(std::string_view text) {
    const auto first = text.find_first_not_of(" \t\r\n");
    if (first == std::string_view::npos) return "";
    return text.substr(first, text.find_last_not_of(" \t\r\n") - first + 1);
  }

  Config config_;
  re2::RE2 pattern_;
};

MEED_REGISTER(reward_functions, "r1_reward", R1Reward,
              "Accuracy, consistency and form of a judge that thinks (R1-Reward).");

}  // namespace
}  // namespace meed
