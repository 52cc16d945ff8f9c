#include <array>
#include <nlohmann/json.hpp>

#include "libpolicy/core/random.h"
#include "libreward/curation/wrapped_dataset.h"

namespace meed {
namespace {

constexpr size_t kFacts = 3;
constexpr std::array<const char*, kFacts> kNames = {"capital", "river", "year"};
constexpr std::array kCountries = {"Aland",  "Borea",  "Corvia", "Dalmen",
                                   "Estara", "Ferrol", "Galdor", "Hestia"};
/// What a right, and a wrong, statement of a fact is worded with.
constexpr std::array kRight = {"north", "apple", "stone", "light"};
constexpr std::array kWrong = {"south", "lemon", "paper", "night"};

/// Answers that state three checkable facts, each in several words of which some mislead: an answer
/// alone is ambiguous, its critique is not (MM-RLHF). Chosen has fewer wrong facts than rejected.
/// Columns: {chosen,rejected}_{faults,critique,gold}.
class FactAnswers final : public ListDataset {
 public:
  struct Config {
    int64_t num_rows = 1000, seed = 0, words_per_fact = 1;
    double noise = 0.25;
    std::string split = "train";
    void fields(FieldVisitor& v) {
      v.field("num_rows", num_rows, "Rows.");
      v.field("seed", seed, "Seed of everything.");
      v.field("words_per_fact", words_per_fact, "Words that an answer states a fact in.");
      v.field("noise", noise, "Probability that a word is one of the other kind.");
      v.choice("split", split, {"train", "eval"}, "Rows of the two share no seed.");
      v.require(num_rows > 0, "num_rows", "must be positive");
      v.require(seed >= 0, "seed", "must not be negative");
      v.require(words_per_fact > 0, "words_per_fact", "must be positive");
      v.require(noise >= 0 && noise < 0.5, "noise", "must be in [0, 0.5)");
    }
  };
  explicit FactAnswers(const Config& config) {
    for (int64_t i = 0; i < config.num_rows; ++i) rows_.push_back(make(config, i));
  }

 private:
  static std::string answer(const Config& config, const std::array<bool, kFacts>& right,
                            RandomStream& random) {
    std::string text;
    for (size_t f = 0; f < kFacts; ++f) {
      text += " " + std::string(kNames[f]) + ":";
      for (int64_t w = 0; w < config.words_per_fact; ++w) {
        const bool kind = right[f] != (random.next() < config.noise);
        const auto& words = kind ? kRight : kWrong;
        text += " " + std::string(words[static_cast<size_t>(
                          random.next_int(0, static_cast<int64_t>(words.size()) - 1))]);
      }
      text += ".";
    }
    return text;
  }

  static Example make(const Config& config, int64_t row) {
    RandomStream random(
        mix_seed({static_cast<uint64_t>(config.seed), 7,
                  config.split == "eval" ? uint64_t{1} : uint64_t{0}, static_cast<uint64_t>(row)}));
    std::array<std::array<bool, kFacts>, 2> right{};
    std::array<int64_t, 2> count{};
    while (count[0] == count[1]) {
      for (size_t side = 0; side < 2; ++side) {
        count[side] = 0;
        for (auto& fact : right[side]) count[side] += fact = random.next() < 0.5;
      }
    }
    const size_t better = count[0] > count[1] ? 0 : 1;
    Example example;
    example.prompt.text = "Tell three facts about " +
                          std::string(kCountries[static_cast<size_t>(
                              random.next_int(0, static_cast<int64_t>(kCountries.size()) - 1))]) +
                          ".\n";
    for (const bool chosen : {true, false}) {
      const size_t side = chosen ? better : 1 - better;
      const std::string prefix = chosen ? "chosen_" : "rejected_";
      auto text = answer(config, right[side], random);
      while (!chosen && text == example.chosen.text) text = answer(config, right[side], random);
      (chosen ? example.chosen : example.rejected).text = text;
      auto faults = nlohmann::json::array();
      std::string critique;
      for (size_t f = 0; f < kFacts; ++f) {
        if (!right[side][f]) faults.push_back(kNames[f]);
        critique += " " + std::string(kNames[f]) + (right[side][f] ? " right" : " wrong");
      }
      example.extra[prefix + "faults"] = faults.dump();
      example.extra[prefix + "critique"] = critique;
      example.extra[prefix + "gold"] = std::to_string(count[side]);
    }
    return example;
  }
};

MEED_REGISTER(datasets, "fact_answers", FactAnswers,
              "Generated answers with three facts in misleading words, and critiques of them.");

}  // namespace
}  // namespace meed
