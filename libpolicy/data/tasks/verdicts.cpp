#include <array>

#include "libpolicy/data/generated_task.h"

namespace meed {
namespace {

/// Which of two strings of features is better (the toy judge task of R1-Reward): a feature from "a"
/// to "e" is worth 2, 1, 0, -1, -2, and the larger sum wins. The completion reasons and then
/// answers; with `contradiction_rate` the two disagree, with `error_rate` the answer is wrong.
class Verdicts final : public GeneratedTask {
 public:
  struct Config {
    GeneratedRows rows;
    int64_t length = 4;
    double contradiction_rate = 0.0, error_rate = 0.0;
    void fields(FieldVisitor& v) {
      rows.fields(v);
      v.field("length", length, "Features of a string.");
      v.field("contradiction_rate", contradiction_rate,
              "Chance that the reasoning of the completion speaks for the other one.");
      v.field("error_rate", error_rate, "Chance that the completion's answer is wrong.");
      v.require(length > 0 && length <= 20, "length", "must be 1 to 20");
      v.require(contradiction_rate >= 0 && contradiction_rate <= 1, "contradiction_rate",
                "must be in [0, 1]");
      v.require(error_rate >= 0 && error_rate <= 1, "error_rate", "must be in [0, 1]");
    }
  };
  explicit Verdicts(const Config& config) {
    generate(config.rows, "verdicts", [&](RandomStream& random) { return row(config, random); });
  }

 private:
  static Example row(const Config& config, RandomStream& random) {
    static constexpr std::array kFeatures = {"a", "b", "c", "d", "e"};
    std::array<std::string, 2> texts;
    std::array<int64_t, 2> sums{};
    while (sums[0] == sums[1]) {
      for (size_t side = 0; side < 2; ++side) {
        texts[side].clear();
        sums[side] = 0;
        for (int64_t i = 0; i < config.length; ++i) {
          const auto feature = random.next_int(0, 4);
          texts[side] += std::string(" ") + kFeatures[static_cast<size_t>(feature)];
          sums[side] += 2 - feature;
        }
      }
    }
    const std::string better = sums[0] > sums[1] ? "1" : "2", worse = better == "1" ? "2" : "1";
    const std::string answer = random.next() < config.error_rate ? worse : better;
    const bool contradicts = random.next() < config.contradiction_rate;
    const std::string reasoned = contradicts ? (answer == "1" ? "2" : "1") : answer;
    auto example =
        plain_row("1" + texts[0] + " 2" + texts[1] + " ?",
                  "<think> " + reasoned + " is better </think><answer> " + answer + " </answer>");
    example.extra["answer"] = better;
    return example;
  }
};

MEED_REGISTER(datasets, "verdicts", Verdicts, "Which of two strings of features is better.");

}  // namespace
}  // namespace meed
