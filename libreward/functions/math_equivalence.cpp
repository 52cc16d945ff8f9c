#include "libpolicy/core/error.h"
#include "libpolicy/text/answer.h"
#include "libpolicy/text/answer_comparison.h"
#include "libreward/functions/columns.h"
#include "libreward/reward_function.h"

namespace meed {
namespace {

/// 1 where the completion's answer means the same as the row's, as mathematics: fractions,
/// percents, units, LaTeX, sets, expressions in variables. The part "confidence" says how sure the
/// rule is, which `hybrid` weighs it by: 1 an answer in a marked place that was read as an
/// expression, 0.5 a loose match or an answer that had to be guessed, 0 none.
class MathEquivalence final : public PointwiseReward {
 public:
  struct Config {
    std::string answer_column = "answer";
    double tolerance = 1e-6;
    bool require_marked = false;
    double correct = 1.0, wrong = 0.0;
    void fields(FieldVisitor& v) {
      v.field("answer_column", answer_column, "Column of the dataset that holds the right answer.");
      v.field("tolerance", tolerance, "Relative difference of numbers that still counts as equal.");
      v.field("require_marked", require_marked,
              "Count only answers in \\boxed{}, <answer>, or after #### or \"answer is\".");
      v.field("correct", correct, "Score of a right answer.");
      v.field("wrong", wrong, "Score of anything else.");
      v.require(tolerance >= 0, "tolerance", "must not be negative");
    }
  };
  explicit MathEquivalence(const Config& config) : config_(config) {}

 private:
  Score score_one(const Example& example, const Completion& completion) override {
    const auto& cell = column(example, config_.answer_column, "math_equivalence");
    // A column may hold a whole solution, as GSM8K's does.
    const auto found = find_answer(cell);
    if (!found)
      throw DataError("row " + std::to_string(example.row + 1) + ": column \"" +
                      config_.answer_column + "\" holds no answer");
    const std::string gold = found->marked ? found->text : cell;
    const auto given = find_answer(completion.text);
    Score score{.value = config_.wrong};
    score.parts["confidence"] = 0.0;
    if (!given || (config_.require_marked && !given->marked)) {
      score.unreadable = given ? "no_marked_answer" : "no_answer";
      return score;
    }
    const auto verdict = compare_answers(given->text, gold, config_.tolerance);
    score.value = verdict.equal ? config_.correct : config_.wrong;
    if (!verdict.equal && verdict.confidence == 0.0) score.unreadable = "not_mathematics";
    score.parts["confidence"] =
        given->marked ? verdict.confidence : std::min(verdict.confidence, 0.5);
    return score;
  }

  Config config_;
};

MEED_REGISTER(reward_functions, "math_equivalence", MathEquivalence,
              "1 for an answer that is mathematically the same; with its confidence.");

}  // namespace
}  // namespace meed
