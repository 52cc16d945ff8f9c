#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <numeric>

#include "libpolicy/core/error.h"
#include "libpolicy/core/random.h"
#include "libreward/curation/short_to_long.h"
#include "libreward/curation/wrapped_dataset.h"

namespace meed {
namespace {

constexpr std::array kThings = {"river",  "tower",  "garden", "bridge", "market", "castle",
                                "forest", "harbor", "temple", "school", "museum", "station"};
constexpr std::array kColors = {"red",   "blue",   "green",  "white",  "black",  "yellow",
                                "brown", "orange", "purple", "silver", "golden", "pink"};
constexpr std::array kFiller = {"the",    "day",  "was",    "long",   "and",   "people",
                                "came",   "from", "far",    "away",   "while", "rain",
                                "fell",   "over", "hills",  "with",   "wind",  "some",
                                "walked", "home", "others", "stayed", "near",  "fire"};

/// Facts "The tower is blue." (or "tower=blue.") among sentences without facts, a question for one
/// thing, an answer that states its colour and one that states another fact's. Lengths are words of
/// the context (LongRM's needle in filler).
class Needle final : public ListDataset {
 public:
  struct Config {
    int64_t num_rows = 1000, seed = 0, num_facts = 3;
    std::vector<int64_t> lengths = {64, 128, 256, 512, 1024, 2048};
    std::string split = "train", rejected = "other_fact", form = "sentence";
    void fields(FieldVisitor& v) {
      v.field("num_rows", num_rows, "Rows.");
      v.field("seed", seed, "Seed of everything.");
      v.field("lengths", lengths, "Words of a row's context; row i has the i-th, round and round.");
      v.field("num_facts", num_facts, "Facts in a context, 2 to 12.");
      v.choice("rejected", rejected, {"other_fact", "absent"},
               "Wrong answers: another thing's colour, or one that no thing has.");
      v.choice("form", form, {"sentence", "key_value"},
               "How a fact is told. key_value: tower=blue, which tiny models learn to look up "
               "soonest.");
      v.choice("split", split, {"train", "eval"}, "Rows of the two share no seed.");
      v.require(num_rows > 0, "num_rows", "must be positive");
      v.require(seed >= 0, "seed", "must not be negative");
      v.require(num_facts >= 2 && num_facts < static_cast<int64_t>(kThings.size()), "num_facts",
                "must be 2 to " + std::to_string(kThings.size() - 1));
      v.require(!lengths.empty(), "lengths", "must not be empty");
      for (const int64_t length : lengths) v.require(length > 0, "lengths", "must be positive");
    }
  };
  explicit Needle(const Config& config) {
    for (int64_t i = 0; i < config.num_rows; ++i)
      rows_.push_back(
          make(config, i, config.lengths[static_cast<size_t>(i) % config.lengths.size()]));
  }

 private:
  /// The first `count` of 0 .. size - 1 in random order.
  static std::vector<size_t> order_of(size_t size, size_t count, RandomStream& random) {
    std::vector<size_t> order(size);
    std::iota(order.begin(), order.end(), size_t{0});
    for (size_t i = 0; i < count; ++i)
      std::swap(order[i], order[static_cast<size_t>(random.next_int(
                              static_cast<int64_t>(i), static_cast<int64_t>(size) - 1))]);
    order.resize(count);
    return order;
  }

  static Example make(const Config& config, int64_t row, int64_t length) {
    RandomStream random(
        mix_seed({static_cast<uint64_t>(config.seed),
                  config.split == "eval" ? uint64_t{1} : uint64_t{0}, static_cast<uint64_t>(row)}));
    const auto facts = static_cast<size_t>(config.num_facts);
    const auto things = order_of(kThings.size(), facts, random),
               colors = order_of(kColors.size(), facts + 1, random);
    const bool pairs = config.form == "key_value";
    const auto fact = [&](size_t thing, size_t color) {
      return (pairs ? "" : "The ") + std::string(kThings[things[thing]]) + (pairs ? "=" : " is ") +
             kColors[colors[color]];
    };
    std::vector<std::string> critical;
    for (size_t f = 0; f < facts; ++f) critical.push_back(fact(f, f) + ".");
    const auto asked = static_cast<size_t>(random.next_int(0, static_cast<int64_t>(facts) - 1));
    size_t other = static_cast<size_t>(random.next_int(0, static_cast<int64_t>(facts) - 2));
    other = config.rejected == "absent" ? facts : other + (other >= asked);
    std::vector<std::string> filler;
    for (int64_t words = 0; words < length;) {
      std::string sentence;
      const int64_t count = random.next_int(6, 12);
      for (int64_t w = 0; w < count; ++w)
        sentence += (w > 0 ? " " : "") + std::string(kFiller[static_cast<size_t>(random.next_int(
                                             0, static_cast<int64_t>(kFiller.size()) - 1))]);
      filler.push_back(sentence + ".");
      words += count;
    }
    const auto padded = pad_context(critical, filler, length, random);
    // Told in another order than the context's, a recital has to look each colour up.
    std::string recital;
    for (const size_t f : order_of(facts, facts, random))
      recital += (recital.empty() ? "" : ". ") + fact(f, f);
    const std::string thing = kThings[things[asked]];
    const auto question = "\nQuestion: what is the colour of the " + thing + "?\nAnswer:";
    Example example;
    example.prompt.text = padded.text + question;
    example.chosen.text = " " + std::string(kColors[colors[asked]]) + ".";
    example.rejected.text = " " + std::string(kColors[colors[other]]) + ".";
    example.extra = {{"length", std::to_string(length)},
                     {"depth", std::to_string(padded.places[asked] * 10 /
                                              std::max<int64_t>(1, padded.num_sentences) * 10)},
                     {"answer", kColors[colors[asked]]},
                     {"fact", fact(asked, asked)},
                     {"facts", recital},
                     {"misreading", fact(asked, other)},
                     {"chosen_gold", "1"},
                     {"rejected_gold", "0"},
                     {"question", question},
                     {"critical", nlohmann::json(critical).dump()},
                     {"discarded", nlohmann::json(filler).dump()}};
    return example;
  }
};

MEED_REGISTER(datasets, "needle", Needle,
              "Generated facts in filler, a question, a right and a wrong answer.");

}  // namespace
}  // namespace meed
