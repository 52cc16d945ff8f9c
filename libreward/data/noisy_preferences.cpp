#include "libreward/data/generated_rows.h"

namespace meed {
namespace {

/// Preferences by a linear utility, some of them the wrong way round (Secrets of RLHF II), with
/// responses of a policy that has moved away from the pairs as candidates.
class NoisyPreferences final : public GeneratedRows {
 public:
  struct Config {
    GeneratedKeys keys;
    int64_t num_features = 10;
    double utility_length = 2.0, flip_share = 0.2;
    int64_t num_candidates = 0;
    double candidate_shift = 3.0, candidate_scale = 0.3;
    void fields(FieldVisitor& v) {
      keys.fields(v);
      v.field("num_features", num_features, "Numbers of a response.");
      v.field("utility_length", utility_length, "Length of the utility's weights.");
      v.field("flip_share", flip_share, "Share of pairs whose label is the wrong way round.");
      v.field("num_candidates", num_candidates, "Responses of the moved policy to each prompt.");
      v.field("candidate_shift", candidate_shift, "How far the policy has moved.");
      v.field("candidate_scale", candidate_scale, "How much its responses differ.");
      v.require(num_features > 0, "num_features", "must be positive");
      v.require(flip_share >= 0 && flip_share < 1, "flip_share", "must be in [0, 1)");
      v.require(num_candidates >= 0, "num_candidates", "must not be negative");
    }
  };
  explicit NoisyPreferences(const Config& config) {
    constexpr uint64_t kTag = 0xf11b;
    auto hidden = world(config.keys, kTag);
    const auto utility = hidden.direction(config.num_features, config.utility_length);
    const auto moved = hidden.direction(config.num_features, config.candidate_shift);
    for (int64_t i = 0; i < config.keys.num_rows; ++i) {
      auto random = row_stream(config.keys, kTag, i);
      auto a = random.vector(config.num_features, std::sqrt(0.5));
      auto b = random.vector(config.num_features, std::sqrt(0.5));
      if (dot(utility, a) < dot(utility, b)) std::swap(a, b);
      const bool flipped = random.uniform() < config.flip_share;
      if (flipped) std::swap(a, b);
      rows_.push_back(pair(a, b, dot(utility, a), dot(utility, b)));
      rows_.back().extra["flipped"] = flipped ? "true" : "false";
      std::vector<double> candidates, gold;
      for (int64_t c = 0; c < config.num_candidates; ++c) {
        auto x = random.vector(config.num_features, config.candidate_scale);
        for (size_t d = 0; d < x.size(); ++d) x[d] += moved[d];
        gold.push_back(dot(utility, x));
        candidates.insert(candidates.end(), x.begin(), x.end());
      }
      if (gold.empty()) continue;
      rows_.back().extra["candidate_features"] = vector_column(as_floats(candidates));
      rows_.back().extra["candidate_gold"] = as_column(gold);
    }
  }
};

MEED_REGISTER(datasets, "noisy_preferences", NoisyPreferences,
              "Generated preferences with flipped labels, as vectors.");

}  // namespace
}  // namespace meed
