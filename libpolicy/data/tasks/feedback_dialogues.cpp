#include <array>

#include "libpolicy/data/generated_task.h"

namespace meed {
namespace {

/// Dialogues in which a user says what an answer was worth (the toy of FLR): "3+4= 7 thanks great"
/// after a right sum, "3+4= 9 that is wrong" after a wrong one. mode: dialogue gives the whole as
/// the row's text, for a language model that learns to speak the user's turn; answer a prompt and
/// an answer that is right in right_rate of rows, for the policy; pair the right answer as chosen
/// and a wrong one as rejected.
class FeedbackDialogues final : public GeneratedTask {
 public:
  struct Config {
    GeneratedRows rows;
    std::string mode = "dialogue";
    int64_t max_term = 9;
    double right_rate = 0.5;
    void fields(FieldVisitor& v) {
      rows.fields(v);
      v.choice("mode", mode, {"dialogue", "answer", "pair"}, "What a row holds.");
      v.field("max_term", max_term, "Largest number.");
      v.field("right_rate", right_rate, "Share of answers that are right.");
      v.require(max_term > 1 && max_term <= 999, "max_term", "must be 2 to 999");
      v.require(right_rate >= 0 && right_rate <= 1, "right_rate", "must be in [0, 1]");
    }
  };
  explicit FeedbackDialogues(const Config& config) {
    generate(config.rows, "feedback_dialogues",
             [&](RandomStream& random) { return row(config, random); });
  }

 private:
  static Example row(const Config& config, RandomStream& random) {
    static constexpr std::array kGood = {"thanks great", "great that is right", "thanks"};
    static constexpr std::array kBad = {"that is wrong", "no that is wrong", "wrong"};
    const int64_t a = random.next_int(1, config.max_term), b = random.next_int(1, config.max_term);
    const bool right = random.next() < config.right_rate;
    int64_t off = 0;
    while (off == 0 || a + b + off < 0) off = random.next_int(-4, 4);
    const std::string answer = std::to_string(a + b), wrong = std::to_string(a + b + off);
    auto example =
        plain_row(std::to_string(a) + "+" + std::to_string(b) + "=", right ? answer : wrong);
    example.extra["answer"] = answer;
    if (config.mode == "dialogue") {
      const std::string follow_up = right ? pick(kGood, random) : pick(kBad, random);
      // Learnt as a completion too: the words of the user alone.
      example.prompt.text += example.completion.text;
      example.completion.text = "\n" + follow_up;
    } else if (config.mode == "pair") {
      example.chosen.text = answer;
      example.rejected.text = wrong;
      example.completion = {};
    }
    return example;
  }
};

MEED_REGISTER(datasets, "feedback_dialogues", FeedbackDialogues,
              "Sums, answers and what a user says to them.");

}  // namespace
}  // namespace meed
