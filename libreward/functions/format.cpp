#include <re2/re2.h>

#include "libreward/reward_function.h"

namespace meed {
namespace {

/// 1 where the completion matches a regular expression, else 0. RE2 takes linear time, whatever the
/// text.
class Format final : public PointwiseReward {
 public:
  struct Config {
    std::string pattern;
    std::string match = "full";
    void fields(FieldVisitor& v) {
      v.field("pattern", pattern, "Regular expression (RE2 syntax); . matches line ends too.");
      v.required("pattern");
      v.choice("match", match, {"full", "search"},
               "The whole completion must match, or some part of it.");
      const re2::RE2 compiled(pattern, re2::RE2::Quiet);
      v.require(compiled.ok(), "pattern", "is not a regular expression: " + compiled.error());
    }
  };
  explicit Format(const Config& config)
      : full_(config.match == "full"), pattern_("(?s)" + config.pattern, re2::RE2::Quiet) {}

 private:
  Score score_one(const Example&, const Completion& completion) override {
    const bool matches = full_ ? re2::RE2::FullMatch(completion.text, pattern_)
                               : re2::RE2::PartialMatch(completion.text, pattern_);
    return {.value = matches ? 1.0 : 0.0};
  }
  bool full_;
  re2::RE2 pattern_;
};

MEED_REGISTER(reward_functions, "format", Format,
              "1 where the completion matches a regular expression.");

}  // namespace
}  // namespace meed
