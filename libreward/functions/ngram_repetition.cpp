#include "libpolicy/text/text_metrics.h"
#include "libreward/reward_function.h"

namespace meed {
namespace {

/// -max_penalty * (1 - distinct n-grams / n-grams) over 13a words: 0 where none repeats. A text
/// shorter than n words has none.
class NgramRepetition final : public PointwiseReward {
 public:
  struct Config {
    int64_t ngram_size = 3;
    double max_penalty = 1.0;
    void fields(FieldVisitor& v) {
      v.field("ngram_size", ngram_size, "Words of an n-gram.");
      v.field("max_penalty", max_penalty, "Cost of a text that repeats one n-gram for ever.");
      v.require(ngram_size > 0 && ngram_size <= 64, "ngram_size", "must be in [1, 64]");
      v.require(max_penalty > 0, "max_penalty", "must be positive");
    }
  };
  explicit NgramRepetition(const Config& config) : config_(config) {}

 private:
  Score score_one(const Example&, const Completion& completion) override {
    const auto words = tokenize_13a(completion.text);
    const auto n = static_cast<size_t>(config_.ngram_size);
    if (words.size() < n) return {};
    const double share = static_cast<double>(count_ngrams(words, n).size()) /
                         static_cast<double>(words.size() - n + 1);
    return {.value = config_.max_penalty * (share - 1.0)};
  }
  Config config_;
};

MEED_REGISTER(reward_functions, "ngram_repetition", NgramRepetition,
              "Cost of repeated n-grams of words.");

}  // namespace
}  // namespace meed
