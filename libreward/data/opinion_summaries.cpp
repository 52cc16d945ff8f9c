#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "libreward/data/generated_rows.h"
#include "libreward/data/opinion_features.h"

namespace meed {
namespace {

const std::vector<std::string> kFiller = {"arrived", "monday", "my", "cousin", "bought", "this"};
const std::vector<std::string> kInvented = {"waterproof", "titanium", "award",  "solar",
                                            "wireless",   "vintage",  "marble", "turbo"};

/// Reviews of a product with two summaries of controlled faults (aspects left out, opinions turned
/// round, invented words, repetition, chatter), compared by a hidden linear utility of the seven
/// features. As vectors a row has either the features or counts of its words; the texts stand in
/// prompt, chosen and rejected, the reviews as a list in the column reviews.
class OpinionSummaries final : public GeneratedRows {
 public:
  struct Config {
    GeneratedKeys keys;
    std::string representation = "features";
    int64_t num_reviews = 4, num_pair_buckets = 64;
    double label_noise = 0.1;
    void fields(FieldVisitor& v) {
      keys.fields(v);
      v.choice("representation", representation, {"features", "tokens"},
               "The seven features, or counts of the words and word pairs of reviews and summary.");
      v.field("num_reviews", num_reviews, "Reviews of a product.");
      v.field("num_pair_buckets", num_pair_buckets,
              "tokens: buckets that word pairs are hashed to.");
      v.field("label_noise", label_noise, "Deviation of what decides a label from the utility.");
      v.require(num_reviews > 0, "num_reviews", "must be positive");
      v.require(num_pair_buckets > 0, "num_pair_buckets", "must be positive");
      v.require(label_noise >= 0, "label_noise", "must not be negative");
    }
  };
  explicit OpinionSummaries(const Config& config) : config_(config) {
    constexpr uint64_t kTag = 0x0b1;
    auto hidden = world(config.keys, kTag);
    for (auto& weight : weights_) weight *= 0.7 + 0.6 * hidden.uniform();
    for (int64_t i = 0; i < config.keys.num_rows; ++i) {
      auto random = row_stream(config.keys, kTag, i);
      // What the buyers of this product think.
      std::vector<std::pair<std::string, bool>> opinions;
      for (const auto& aspect : product_lexicon().aspects)
        if (random.uniform() < 0.6) opinions.emplace_back(aspect, random.uniform() < 0.5);
      if (opinions.empty()) opinions.emplace_back(product_lexicon().aspects[0], true);
      std::vector<std::string> reviews;
      for (int64_t r = 0; r < config.num_reviews; ++r) reviews.push_back(review(random, opinions));
      auto a = summary(random, opinions), b = summary(random, opinions);
      double gold_a = utility(reviews, a), gold_b = utility(reviews, b);
      if (gold_a + config.label_noise * random.next() <
          gold_b + config.label_noise * random.next()) {
        std::swap(a, b);
        std::swap(gold_a, gold_b);
      }
      auto row = pair(vector_of(reviews, a), vector_of(reviews, b), gold_a, gold_b);
      for (const auto& text : reviews) row.prompt.text += "Review: " + text + "\n";
      row.prompt.text += "Summary:";
      row.extra["reviews"] = nlohmann::json(reviews).dump();
      row.chosen.text = " " + a;
      row.rejected.text = " " + b;
      rows_.push_back(std::move(row));
    }
  }

 private:
  using Opinions = std::vector<std::pair<std::string, bool>>;

  static const std::string& pick(NormalStream& random, const std::vector<std::string>& words) {
    return words[static_cast<size_t>(random.next_int(0, static_cast<int64_t>(words.size()) - 1))];
  }
  static std::string opinion(NormalStream& random, const std::string& aspect, bool positive) {
    return pick(random, positive ? product_lexicon().positive : product_lexicon().negative) + " " +
           aspect + ". ";
  }
  static std::string chatter(NormalStream& random) {
    return pick(random, kFiller) + " " + pick(random, kFiller) + ". ";
  }

  static std::string review(NormalStream& random, const Opinions& opinions) {
    std::string text;
    for (const auto& [aspect, positive] : opinions)
      if (random.uniform() < 0.8)  // now and then a buyer disagrees
        text += opinion(random, aspect, random.uniform() < 0.9 ? positive : !positive);
    return text + chatter(random);
  }

  /// Each summary has its own rate of each fault.
  static std::string summary(NormalStream& random, const Opinions& opinions) {
    const double omit = 0.7 * random.uniform(), turn = 0.5 * random.uniform(),
                 invent = 0.5 * random.uniform(), repeat = 0.4 * random.uniform(),
                 chat = 0.5 * random.uniform();
    std::string text;
    for (const auto& [aspect, positive] : opinions) {
      if (random.uniform() < omit) continue;
      const auto sentence = opinion(random, aspect, random.uniform() < turn ? !positive : positive);
      text += sentence;
      if (random.uniform() < repeat) text += sentence;
      if (random.uniform() < invent)
        text += pick(random, kInvented) + " " + pick(random, kInvented) + ". ";
      if (random.uniform() < chat) text += chatter(random);
    }
    return text.empty() ? chatter(random) : text;
  }

  double utility(const std::vector<std::string>& reviews, const std::string& text) const {
    const auto values = opinion_features(reviews, text).values();
    double sum = 0.0;
    for (size_t k = 0; k < values.size(); ++k) sum += weights_[k] * values[k];
    return sum;
  }

  std::vector<double> vector_of(const std::vector<std::string>& reviews,
                                const std::string& text) const {
    if (config_.representation == "features") {
      const auto values = opinion_features(reviews, text).values();
      return {values.begin(), values.end()};
    }
    std::string all;
    for (const auto& review : reviews) all += review;
    auto counts = token_counts(all);
    const auto own = token_counts(text);
    counts.insert(counts.end(), own.begin(), own.end());
    return counts;
  }

  /// log(1 + count) of each word, then of each bucket of word pairs.
  std::vector<double> token_counts(const std::string& text) const {
    static const std::vector<std::string> vocabulary = [] {
      auto words = product_lexicon().aspects;
      for (const auto* more :
           {&product_lexicon().positive, &product_lexicon().negative, &kFiller, &kInvented})
        words.insert(words.end(), more->begin(), more->end());
      return words;
    }();
    std::vector<double> counts(vocabulary.size() + static_cast<size_t>(config_.num_pair_buckets));
    std::string word;
    size_t before = vocabulary.size();
    for (const char c : text) {
      if (c != ' ' && c != '.') {
        word += c;
        continue;
      }
      const auto place = static_cast<size_t>(std::find(vocabulary.begin(), vocabulary.end(), word) -
                                             vocabulary.begin());
      if (!word.empty() && place < vocabulary.size()) {
        counts[place] += 1.0;
        if (before < vocabulary.size())
          counts[vocabulary.size() + mix_seed({before, place}) %
                                         static_cast<uint64_t>(config_.num_pair_buckets)] += 1.0;
        before = place;
      }
      if (c == '.') before = vocabulary.size();
      word.clear();
    }
    for (auto& count : counts) count = std::log1p(count);
    return counts;
  }

  Config config_;
  /// Of the features in their order; hallucination costs.
  std::array<double, 7> weights_ = {2.0, 3.0, 3.0, 1.0, 1.0, -4.0, 2.0};
};

MEED_REGISTER(datasets, "opinion_summaries", OpinionSummaries,
              "Generated reviews with two summaries, as texts and vectors.");

}  // namespace
}  // namespace meed
