#include <algorithm>
#include <array>

#include "libpolicy/core/random.h"
#include "libreward/curation/wrapped_dataset.h"

namespace meed {
namespace {

/// Two instructions that differ in one word and have answers of their own.
struct Contrast {
  std::string first, second;  ///< instructions
  std::string first_answer, second_answer;
};

constexpr std::array kNames = {"Ann", "Ben", "Cara", "Dan", "Eva", "Finn", "Gina", "Hugo"};
constexpr std::array kNouns = {"apples", "books", "stones", "coins", "shells", "cards"};

std::string number(RandomStream& random, int64_t low, int64_t high) {
  return std::to_string(random.next_int(low, high));
}

Contrast make_contrast(RandomStream& random) {
  const auto name = [&] {
    return std::string(
        kNames[static_cast<size_t>(random.next_int(0, static_cast<int64_t>(kNames.size()) - 1))]);
  };
  const auto noun = std::string(
      kNouns[static_cast<size_t>(random.next_int(0, static_cast<int64_t>(kNouns.size()) - 1))]);
  const auto a = name();
  auto b = name();
  while (b == a) b = name();
  const int64_t x = random.next_int(2, 40);
  int64_t y = random.next_int(2, 40);
  while (y == x) y = random.next_int(2, 40);
  const auto has = a + " has " + std::to_string(x) + " " + noun + " and " + b + " has " +
                   std::to_string(y) + " " + noun + ". ";
  switch (random.next_int(0, 2)) {
    case 0:
      return {has + "Who has more " + noun + "?", has + "Who has fewer " + noun + "?",
              x > y ? a : b, x > y ? b : a};
    case 1:
      return {has + "How many " + noun + " does " + a + " have?",
              has + "How many " + noun + " does " + b + " have?", std::to_string(x),
              std::to_string(y)};
    default:
      return {has + "Name the person who is named first.",
              has + "Name the person who is named last.", a, b};
  }
}

/// Pairs of instructions that read alike and want different answers (Trickle-down's contrast
/// instructions), from templates. `plain` rows are ordinary preferences whose rejected side answers
/// something else; `contrast` rows test consistency: kind "response" has one instruction and the
/// answers of both; kind "instruction" one answer under both instructions.
class ContrastInstructions final : public ListDataset {
 public:
  struct Config {
    int64_t num_rows = 1000, seed = 0;
    std::string rows = "plain", split = "train";
    void fields(FieldVisitor& v) {
      v.field("num_rows", num_rows, "Rows.");
      v.field("seed", seed, "Seed of everything.");
      v.choice("rows", rows, {"plain", "contrast"}, "Preferences to train on, or the test.");
      v.choice("split", split, {"train", "eval"}, "Rows of the two share no seed.");
      v.require(num_rows > 0, "num_rows", "must be positive");
      v.require(seed >= 0, "seed", "must not be negative");
    }
  };
  explicit ContrastInstructions(const Config& config) {
    for (int64_t i = 0; i < config.num_rows; ++i)
      rows_.push_back(config.rows == "plain" ? plain(config, i) : contrast(config, i));
  }

 private:
  static RandomStream stream(const Config& config, int64_t row) {
    return RandomStream(
        mix_seed({static_cast<uint64_t>(config.seed), 31,
                  config.split == "eval" ? uint64_t{1} : uint64_t{0}, static_cast<uint64_t>(row)}));
  }

  /// The wrong answer is off the subject: what is neither of the two right ones.
  static Example plain(const Config& config, int64_t row) {
    auto random = stream(config, row);
    const auto item = make_contrast(random);
    const bool first = random.next() < 0.5;
    const auto& right = first ? item.first_answer : item.second_answer;
    std::string wrong = right;
    while (wrong == item.first_answer || wrong == item.second_answer) {
      const auto other = make_contrast(random);
      wrong = random.next() < 0.5 ? "I like " + other.first_answer : number(random, 50, 99);
    }
    Example example;
    example.prompt.text = prompt_of(first ? item.first : item.second);
    example.chosen.text = " " + right + ".";
    example.rejected.text = " " + wrong + ".";
    example.extra = {{"kind", "plain"}};
    return example;
  }

  /// Four rows an item: both directions of both kinds.
  static Example contrast(const Config& config, int64_t row) {
    auto random = stream(config, row / 4);
    const auto item = make_contrast(random);
    const bool first = row % 2 == 0, response = row % 4 < 2;
    const auto& own = first ? item.first : item.second;
    const auto& other = first ? item.second : item.first;
    const auto& right = first ? item.first_answer : item.second_answer;
    const auto& wrong = first ? item.second_answer : item.first_answer;
    Example example;
    if (response) {
      example.prompt.text = prompt_of(own);
      example.chosen.text = " " + right + ".";
      example.rejected.text = " " + wrong + ".";
    } else {
      example.chosen.text = prompt_of(own) + " " + right + ".";
      example.rejected.text = prompt_of(other) + " " + right + ".";
    }
    example.extra = {{"kind", response ? "response" : "instruction"}};
    return example;
  }

  static std::string prompt_of(const std::string& instruction) { return instruction + "\nAnswer:"; }
};

MEED_REGISTER(datasets, "contrast_instructions", ContrastInstructions,
              "Generated instructions that read alike and want different answers.");

}  // namespace
}  // namespace meed
