#include <re2/re2.h>

#include "libpolicy/core/error.h"
#include "libpolicy/text/answer.h"
#include "libreward/functions/columns.h"
#include "libreward/reward_function.h"

namespace meed {
namespace {

/// 1 for a completion whose final answer equals the row's `answer`, else 0; without a number that
/// float64 holds it is counted as unreadable. With `require_format` only an answer in the asked
/// form counts: the regular expression must match, and its first group, if it has one, is the
/// answer.
class MathAnswer final : public PointwiseReward {
 public:
  struct Config {
    std::string answer_column = "answer";
    std::string require_format;
    double correct = 1.0, wrong = 0.0;
    void fields(FieldVisitor& v) {
      v.field("answer_column", answer_column, "Column of the dataset that holds the right answer.");
      v.field("require_format", require_format,
              "Regular expression (RE2) that the whole completion must match; empty: any form.");
      v.field("correct", correct, "Score of a right answer.");
      v.field("wrong", wrong, "Score of anything else.");
      if (!require_format.empty()) {
        const re2::RE2 pattern(require_format, re2::RE2::Quiet);
        v.require(pattern.ok(), "require_format",
                  "is not a regular expression: " + pattern.error());
      }
    }
  };

  explicit MathAnswer(const Config& config) : config_(config) {
    if (!config_.require_format.empty())
      pattern_ = std::make_unique<re2::RE2>("(?s)\\s*(?:" + config_.require_format + ")\\s*",
                                            re2::RE2::Quiet);
  }

 private:
  Score score_one(const Example& example, const Completion& completion) override {
    // GSM8K's column is a whole solution; the number after #### is the answer.
    const auto right = extract_answer(column(example, config_.answer_column, "math_answer"));
    if (!right)
      throw DataError("row " + std::to_string(example.row + 1) + ": column \"" +
                      config_.answer_column + "\" holds no number");
    const auto given = answer_of(completion.text);
    Score score{.value = given && same_number(*given, *right) ? config_.correct : config_.wrong};
    if (!given) score.unreadable = pattern_ ? "not_in_form" : "no_answer";
    return score;
  }

  std::optional<double> answer_of(const std::string& text) const {
    if (!pattern_) return extract_answer(text);
    std::string group;
    if (pattern_->NumberOfCapturingGroups() > 0) {
      if (!re2::RE2::FullMatch(text, *pattern_, &group)) return std::nullopt;
      return parse_number(group);
    }
    if (!re2::RE2::FullMatch(text, *pattern_)) return std::nullopt;
    return extract_answer(text);
  }

  Config config_;
  std::unique_ptr<re2::RE2> pattern_;
};

MEED_REGISTER(reward_functions, "math_answer", MathAnswer,
              "1 for the right number, in the asked form.");

}  // namespace
}  // namespace meed
