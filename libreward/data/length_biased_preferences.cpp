#include <algorithm>

#include "libreward/data/generated_rows.h"

namespace meed {
namespace {

/// Preferences whose chosen side is often much longer although length plays no part in the reward
/// (InternLM-XComposer2.5-Reward). The last feature is the length, the one before it says how well
/// the response fits its image: a share of the single responses is planted with one that does not.
class LengthBiasedPreferences final : public GeneratedRows {
 public:
  struct Config {
    GeneratedKeys keys;
    int64_t num_features = 8, num_candidates = 0;
    std::string long_side = "chosen";
    double long_share = 0.4, label_noise = 0.5, mismatch_share = 0.1;
    void fields(FieldVisitor& v) {
      keys.fields(v);
      v.field("num_features", num_features, "Numbers of a response beside fit and length.");
      v.field(
          "long_share", long_share,
          "Share of pairs with one side 1.6 to 3 times as long; in the others lengths differ by "
          "less than 1.5 either way.");
      v.choice("long_side", long_side, {"chosen", "either"},
               "Which side is that: chosen biases the pairs by length, either balances them.");
      v.field("label_noise", label_noise,
              "Deviation of what decides a label from the gold reward.");
      v.field("mismatch_share", mismatch_share,
              "Share of the single responses that do not fit their image (column flagged).");
      v.field("num_candidates", num_candidates, "Candidates of each row.");
      v.require(num_features > 0, "num_features", "must be positive");
      v.require(long_share >= 0 && long_share <= 1, "long_share", "must be in [0, 1]");
      v.require(label_noise >= 0, "label_noise", "must not be negative");
      v.require(mismatch_share >= 0 && mismatch_share < 1, "mismatch_share", "must be in [0, 1)");
      v.require(num_candidates >= 0, "num_candidates", "must not be negative");
    }
  };
  explicit LengthBiasedPreferences(const Config& config) : config_(config) {
    constexpr uint64_t kTag = 0x1e6;
    utility_ = world(config.keys, kTag).direction(config.num_features, 1.0);
    for (int64_t i = 0; i < config.keys.num_rows; ++i) {
      auto random = row_stream(config.keys, kTag, i);
      auto a = response(random, false), b = response(random, false);
      if (gold(a) + config.label_noise * random.next() <
          gold(b) + config.label_noise * random.next())
        std::swap(a, b);
      const bool by_length = random.uniform() < config.long_share;
      const double ratio =
          by_length ? 1.6 + 1.4 * random.uniform() : std::exp(0.8 * (random.uniform() - 0.5));
      const double shorter = 40.0 + 60.0 * random.uniform();
      double chosen = std::round(shorter * ratio), rejected = std::round(shorter);
      if (by_length && config.long_side == "either" && random.uniform() < 0.5)
        std::swap(chosen, rejected);
      a.back() = length_feature(chosen);
      b.back() = length_feature(rejected);
      rows_.push_back(pair(a, b, gold(a), gold(b)));
      auto& row = rows_.back();
      row.extra["chosen_length"] = as_column(chosen);
      row.extra["rejected_length"] = as_column(rejected);
      const bool mismatch = random.uniform() < config.mismatch_share;
      const auto single = response(random, mismatch);
      row.extra["features"] = vector_column(as_floats(single));
      row.extra["flagged"] = mismatch ? "true" : "false";
      row.extra["gold"] = as_column(gold(single));
      add_candidates(random, row);
    }
  }

 private:
  /// Lengths are 40 to 300 or so; about 0 on average, deviation about 1.
  static double length_feature(double length) { return 2.0 * std::log(length / 85.0); }

  /// Features, fit to the image, length feature.
  std::vector<double> response(NormalStream& random, bool mismatch) const {
    auto x = random.vector(config_.num_features);
    x.push_back((mismatch ? -4.0 : 1.0) + random.next());
    x.push_back(length_feature(40.0 + 120.0 * random.uniform()));
    return x;
  }
  double gold(const std::vector<double>& x) const {
    return dot({x.begin(), x.begin() + config_.num_features}, utility_) +
           x[static_cast<size_t>(config_.num_features)];
  }
  void add_candidates(NormalStream& random, Example& row) const {
    std::vector<double> candidates, candidate_gold;
    for (int64_t c = 0; c < config_.num_candidates; ++c) {
      const auto x = response(random, false);
      candidate_gold.push_back(gold(x));
      candidates.insert(candidates.end(), x.begin(), x.end());
    }
    if (candidates.empty()) return;
    row.extra["candidate_features"] = vector_column(as_floats(candidates));
    row.extra["candidate_gold"] = as_column(candidate_gold);
  }
  Config config_;
  std::vector<double> utility_;
};

MEED_REGISTER(datasets, "length_biased_preferences", LengthBiasedPreferences,
              "Generated preferences whose chosen side is often longer, as vectors.");

}  // namespace
}  // namespace meed
