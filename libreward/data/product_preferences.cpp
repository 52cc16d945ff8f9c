#include "libreward/data/generated_rows.h"

namespace meed {
namespace {

/// Preferences by the product of two features and a linear part (BaseReward): a linear head cannot
/// read the product. The lengths say nothing of the reward.
class ProductPreferences final : public GeneratedRows {
 public:
  struct Config {
    GeneratedKeys keys;
    int64_t num_features = 8;
    double product_weight = 1.5, noise = 0.3;
    void fields(FieldVisitor& v) {
      keys.fields(v);
      v.field("num_features", num_features, "Numbers of a response.");
      v.field("product_weight", product_weight, "Weight of the product of the first two features.");
      v.field("noise", noise, "Deviation of what decides a label from the reward.");
      v.require(num_features >= 2, "num_features", "must be at least 2");
      v.require(noise >= 0, "noise", "must not be negative");
    }
  };
  explicit ProductPreferences(const Config& config) {
    constexpr uint64_t kTag = 0x0402;
    const auto weights = world(config.keys, kTag).direction(config.num_features, 1.0);
    const auto reward = [&](const std::vector<double>& x) {
      return config.product_weight * x[0] * x[1] + dot(weights, x);
    };
    for (int64_t i = 0; i < config.keys.num_rows; ++i) {
      auto random = row_stream(config.keys, kTag, i);
      auto a = random.vector(config.num_features), b = random.vector(config.num_features);
      if (reward(a) + config.noise * random.next() < reward(b) + config.noise * random.next())
        std::swap(a, b);
      rows_.push_back(pair(a, b, reward(a), reward(b)));
      rows_.back().extra["chosen_length"] = std::to_string(random.next_int(20, 200));
      rows_.back().extra["rejected_length"] = std::to_string(random.next_int(20, 200));
    }
  }
};

MEED_REGISTER(datasets, "product_preferences", ProductPreferences,
              "Generated preferences by a product of features, as vectors.");

}  // namespace
}  // namespace meed
