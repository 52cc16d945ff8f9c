#include <algorithm>

#include "libreward/data/generated_rows.h"

namespace meed {
namespace {

/// Preferences with a strength of 1 to 3, and ratings (HelpSteer2-Preference): strength grows with
/// the difference of utility, and so does the trust in the label.
class StrengthPreferences final : public GeneratedRows {
 public:
  struct Config {
    GeneratedKeys keys;
    std::string kind = "pairs";
    int64_t num_features = 16;
    double rating_noise = 0.5;
    std::vector<double> flip_shares = {0.3, 0.1, 0.0};
    void fields(FieldVisitor& v) {
      keys.fields(v);
      v.choice(
          "kind", kind, {"pairs", "ratings"},
          "pairs with the strength as margin, or single responses with the column helpfulness.");
      v.field("num_features", num_features, "Numbers of a response.");
      v.field("rating_noise", rating_noise, "Deviation of a rating before it is rounded.");
      v.field("flip_shares", flip_shares, "Share of wrong labels at strength 1, 2 and 3.");
      v.require(num_features > 0, "num_features", "must be positive");
      v.require(rating_noise >= 0, "rating_noise", "must not be negative");
      v.require(flip_shares.size() == 3, "flip_shares", "must be three numbers");
      for (const double share : flip_shares)
        v.require(share >= 0 && share < 1, "flip_shares", "must be in [0, 1)");
    }
  };
  explicit StrengthPreferences(const Config& config) {
    constexpr uint64_t kTag = 0x57e4;
    const auto utility = world(config.keys, kTag).direction(config.num_features, 1.0);
    for (int64_t i = 0; i < config.keys.num_rows; ++i) {
      auto random = row_stream(config.keys, kTag, i);
      auto a = random.vector(config.num_features);
      if (config.kind == "ratings") {
        const double gold = dot(utility, a);
        const double rating = 2.0 + 1.2 * (gold + config.rating_noise * random.next());
        Example example;
        example.extra["features"] = vector_column(as_floats(a));
        example.extra["helpfulness"] = as_column(std::clamp(std::round(rating), 0.0, 4.0));
        example.extra["gold"] = as_column(gold);
        rows_.push_back(std::move(example));
        continue;
      }
      auto b = random.vector(config.num_features);
      if (dot(utility, a) < dot(utility, b)) std::swap(a, b);
      // The difference is sqrt(2) |normal|: about a third of the pairs each.
      const double difference = (dot(utility, a) - dot(utility, b)) / std::sqrt(2.0);
      const size_t strength = difference < 0.43 ? 1 : difference < 0.97 ? 2 : 3;
      const bool flipped = random.uniform() < config.flip_shares[strength - 1];
      if (flipped) std::swap(a, b);
      rows_.push_back(pair(a, b, dot(utility, a), dot(utility, b)));
      rows_.back().margin = static_cast<double>(strength);
      rows_.back().extra["flipped"] = flipped ? "true" : "false";
    }
  }
};

MEED_REGISTER(datasets, "strength_preferences", StrengthPreferences,
              "Generated preferences with strengths, and ratings, as vectors.");

}  // namespace
}  // namespace meed
