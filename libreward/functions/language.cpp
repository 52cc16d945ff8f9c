#include <set>

#include "libpolicy/core/error.h"
#include "libpolicy/core/files.h"
#include "libpolicy/text/language_id.h"
#include "libreward/functions/columns.h"
#include "libreward/reward_function.h"

namespace meed {
namespace {

/// 1 where a completion is in the row's language, else 0 (the lightweight reward of ExTrans's
/// transfer directions).
class Language final : public PointwiseReward {
 public:
  struct Config {
    std::string language_column = "language";
    std::string answer_tag;
    std::map<std::string, std::string> samples, sample_files;
    std::vector<std::string> languages;
    double min_probability = 0.5;
    void fields(FieldVisitor& v) {
      v.field("language_column", language_column, "Column with the language's name, such as de.");
      v.field("answer_tag", answer_tag,
              "Look at the inside of this tag; a completion without it scores 0. Empty: all.");
      v.field("samples", samples, "Languages that are not known, by name: some text of each.");
      v.field("sample_files", sample_files, "The same, from files.");
      v.field("languages", languages, "Languages to choose among; empty: all that are known.");
      v.field("min_probability", min_probability,
              "How sure the choice among languages of one script must be.");
      v.require(min_probability >= 0 && min_probability <= 1, "min_probability",
                "must be in [0, 1]");
    }
  };
  explicit Language(const Config& config)
      : config_(config), identifier_(all_samples(config), config.languages) {
    for (auto& name : identifier_.languages()) known_.insert(std::move(name));
  }

 private:
  static std::map<std::string, std::string> all_samples(const Config& config) {
    auto samples = config.samples;
    for (const auto& [name, path] : config.sample_files) samples[name] = read_file(path);
    return samples;
  }

  Score score_one(const Example& example, const Completion& completion) override {
    const auto& wanted = column(example, config_.language_column, "language");
    if (known_.count(wanted) == 0)
      throw DataError("row " + std::to_string(example.row + 1) + ": column \"" +
                      config_.language_column + "\" holds \"" + wanted +
                      "\", which is none of the languages; give a sample of it");
    std::string_view text = completion.text;
    if (!config_.answer_tag.empty()) {
      const auto block = only_block(text, config_.answer_tag);
      if (!block) return {.unreadable = "no_" + config_.answer_tag};
      text = *block;
    }
    const auto guess = identifier_.identify(text);
    if (guess.language.empty()) return {.unreadable = "no_language"};
    return {.value = guess.language == wanted && guess.probability >= config_.min_probability
                         ? 1.0
                         : 0.0};
  }

  Config config_;
  LanguageIdentifier identifier_;
  std::set<std::string> known_;
};

MEED_REGISTER(reward_functions, "language", Language,
              "1 where the completion is in the row's language.");

}  // namespace
}  // namespace meed
