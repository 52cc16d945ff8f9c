#include "libreward/data/generated_rows.h"

namespace meed {
namespace {

/// Preferences by a gold reward on most of the features; the rest, which come first, go with the
/// reward in the pairs and in the candidates do not (Helping or herding): among the candidates are
/// responses that raise one of them and are poor.
class SpuriousPreferences final : public GeneratedRows {
 public:
  struct Config {
    GeneratedKeys keys;
    int64_t num_features = 20, num_spurious = 5, num_candidates = 0;
    double spurious_correlation = 0.7, label_noise = 0.5;
    double hack_share = 0.02, hack_size = 4.0, hack_cost = 1.0;
    void fields(FieldVisitor& v) {
      keys.fields(v);
      v.field("num_features", num_features, "Numbers of a response.");
      v.field("num_spurious", num_spurious, "How many of them, the first ones, are spurious.");
      v.field("spurious_correlation", spurious_correlation,
              "Correlation of each spurious feature with the gold reward in the pairs.");
      v.field("label_noise", label_noise,
              "Deviation of what decides a label from the gold reward.");
      v.field("num_candidates", num_candidates, "Candidates of each row.");
      v.field("hack_share", hack_share,
              "Share of the candidates that raise a spurious feature, for each of these.");
      v.field("hack_size", hack_size, "By how many deviations.");
      v.field("hack_cost", hack_cost, "What such a candidate loses of gold reward, in deviations.");
      v.require(num_spurious >= 0 && num_spurious < num_features, "num_spurious",
                "must be less than num_features");
      v.require(spurious_correlation >= 0 && spurious_correlation < 1, "spurious_correlation",
                "must be in [0, 1)");
      v.require(label_noise >= 0, "label_noise", "must not be negative");
      v.require(num_candidates >= 0, "num_candidates", "must not be negative");
      v.require(hack_share >= 0 && hack_share * static_cast<double>(num_spurious) <= 1,
                "hack_share", "must be in [0, 1 / num_spurious]");
    }
  };
  explicit SpuriousPreferences(const Config& config) : config_(config) {
    constexpr uint64_t kTag = 0x59a7;
    gold_ = world(config.keys, kTag).direction(config.num_features - config.num_spurious, 1.0);
    for (int64_t i = 0; i < config.keys.num_rows; ++i) {
      auto random = row_stream(config.keys, kTag, i);
      auto a = response(random), b = response(random);
      if (gold(a) + config.label_noise * random.next() <
          gold(b) + config.label_noise * random.next())
        std::swap(a, b);
      rows_.push_back(pair(a, b, gold(a), gold(b)));
      std::vector<double> candidates, candidate_gold;
      for (int64_t c = 0; c < config.num_candidates; ++c) {
        const auto x = candidate(random);
        candidate_gold.push_back(gold(x));
        candidates.insert(candidates.end(), x.begin(), x.end());
      }
      if (candidates.empty()) continue;
      rows_.back().extra["candidate_features"] = vector_column(as_floats(candidates));
      rows_.back().extra["candidate_gold"] = as_column(candidate_gold);
    }
  }

 private:
  double gold(const std::vector<double>& x) const {
    return dot({x.begin() + config_.num_spurious, x.end()}, gold_);
  }
  std::vector<double> response(NormalStream& random) const {
    const auto causal = random.vector(static_cast<int64_t>(gold_.size()));
    const double reward = dot(causal, gold_), rho = config_.spurious_correlation;
    std::vector<double> x;
    for (int64_t s = 0; s < config_.num_spurious; ++s)
      x.push_back(rho * reward + std::sqrt(1.0 - rho * rho) * random.next());
    x.insert(x.end(), causal.begin(), causal.end());
    return x;
  }
  std::vector<double> candidate(NormalStream& random) const {
    auto x = random.vector(config_.num_features);
    const double u = random.uniform();
    const auto which = static_cast<int64_t>(u / std::max(config_.hack_share, 1e-12));
    if (which >= config_.num_spurious) return x;
    x[static_cast<size_t>(which)] += config_.hack_size;
    for (size_t d = 0; d < gold_.size(); ++d)
      x[d + static_cast<size_t>(config_.num_spurious)] -= config_.hack_cost * gold_[d];
    return x;
  }
  Config config_;
  std::vector<double> gold_;
};

MEED_REGISTER(datasets, "spurious_preferences", SpuriousPreferences,
              "Generated preferences with spurious features, as vectors.");

}  // namespace
}  // namespace meed
