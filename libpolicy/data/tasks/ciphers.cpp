#include <algorithm>
#include <array>
#include <numeric>

#include "libpolicy/data/generated_task.h"

namespace meed {
namespace {

constexpr size_t kNumWords = 200;
/// Consonants of the source language (0) and of the three ciphers.
constexpr std::array kConsonants = {"bdgkp", "lmnrw", "stvzf", "cjhqx"};

/// Word i of a language: two syllables.
std::string word_of(size_t language, size_t i) {
  static constexpr std::string_view kVowels = "aeiou";
  const auto syllable = [&](size_t s) {
    return std::string{kConsonants[language][s / 5], kVowels[s % 5]};
  };
  return syllable(i / 25) + syllable(i % 25);
}

/// Which word of the cipher stands for each source word: the same in every dataset.
const std::vector<size_t>& dictionary(size_t language) {
  static const auto all = [] {
    std::vector<std::vector<size_t>> made;
    for (size_t l = 0; l < kConsonants.size(); ++l) {
      std::vector<size_t> order(kNumWords);
      std::iota(order.begin(), order.end(), size_t{0});
      RandomStream random(mix_seed({27, l}));
      made.push_back(sample_of(std::move(order), kNumWords, random));
    }
    return made;
  }();
  return all[language];
}

/// c1 speaks backwards, c2 swaps neighbours, c3 puts the first word last.
std::vector<size_t> reordered(std::vector<size_t> words, size_t language) {
  if (language == 1) std::reverse(words.begin(), words.end());
  if (language == 2)
    for (size_t i = 0; i + 1 < words.size(); i += 2) std::swap(words[i], words[i + 1]);
  if (language == 3) std::rotate(words.begin(), words.begin() + 1, words.end());
  return words;
}

/// Translation into three made-up languages (the toy of ExTrans): words are substituted from a
/// dictionary of 200 and reordered by a rule. Columns: `reference`, `exemplar` (a translator that
/// gets a word wrong with exemplar_error_rate), `language` c1, c2 or c3, and `direction`: main for
/// c1, transfer for the others. Names of languages as samples for the reward `language` come from
/// `samples`.
class Ciphers final : public GeneratedTask {
 public:
  struct Config {
    GeneratedRows rows;
    std::vector<std::string> languages = {"c1", "c2", "c3"};
    int64_t min_words = 3, max_words = 5, num_words = 200;
    double error_rate = 0.0, exemplar_error_rate = 0.1, wrong_language_rate = 0.0;
    void fields(FieldVisitor& v) {
      rows.fields(v);
      v.field("languages", languages, "Targets: c1, c2, c3.");
      v.field("min_words", min_words, "Fewest words of a sentence.");
      v.field("max_words", max_words, "Most.");
      v.field("num_words", num_words, "Source words that occur, at most 200.");
      v.field("error_rate", error_rate, "Chance that a word of the completion is wrong.");
      v.field("exemplar_error_rate", exemplar_error_rate, "The same of the exemplar.");
      v.field("wrong_language_rate", wrong_language_rate,
              "Chance that the completion is in another of the languages.");
      v.require(!languages.empty(), "languages", "must name a language");
      for (const auto& name : languages)
        v.require(name == "c1" || name == "c2" || name == "c3", "languages",
                  "must be c1, c2 or c3");
      v.require(min_words > 0 && max_words >= min_words && max_words <= 20, "max_words",
                "must be min_words to 20");
      v.require(num_words > 1 && num_words <= static_cast<int64_t>(kNumWords), "num_words",
                "must be 2 to 200");
      for (const double rate : {error_rate, exemplar_error_rate, wrong_language_rate})
        v.require(rate >= 0 && rate <= 1, "error_rate", "and the other rates must be in [0, 1]");
    }
  };
  explicit Ciphers(const Config& config) {
    generate(config.rows, "ciphers", [&](RandomStream& random) { return row(config, random); });
  }

 private:
  static std::string translated(const std::vector<size_t>& source, size_t language,
                                double error_rate, RandomStream& random) {
    std::vector<std::string> words;
    for (const size_t word : reordered(source, language)) {
      const bool wrong = random.next() < error_rate;
      const auto other = static_cast<size_t>(random.next_int(0, kNumWords - 1));
      words.push_back(word_of(language, wrong ? other : dictionary(language)[word]));
    }
    return joined(words, " ");
  }

  static Example row(const Config& config, RandomStream& random) {
    const auto& name = pick(config.languages, random);
    const auto language = static_cast<size_t>(name[1] - '0');
    std::vector<size_t> source;
    std::vector<std::string> words;
    for (int64_t n = random.next_int(config.min_words, config.max_words); n > 0; --n) {
      source.push_back(static_cast<size_t>(random.next_int(0, config.num_words - 1)));
      words.push_back(word_of(0, source.back()));
    }
    const bool wrong = random.next() < config.wrong_language_rate;
    const size_t spoken = wrong ? 1 + language % 3 : language;
    auto example =
        plain_row(name + " " + joined(words, " ") + " ?",
                  "<think> " + name + " </think><answer> " +
                      translated(source, spoken, config.error_rate, random) + " </answer>");
    example.extra["reference"] = translated(source, language, 0.0, random);
    example.extra["exemplar"] = translated(source, language, config.exemplar_error_rate, random);
    example.extra["language"] = name;
    example.extra["direction"] = language == 1 ? "main" : "transfer";
    return example;
  }
};

MEED_REGISTER(datasets, "ciphers", Ciphers, "Translation into three made-up languages.");

}  // namespace
}  // namespace meed
