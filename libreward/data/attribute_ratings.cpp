#include "libreward/data/generated_rows.h"

namespace meed {
namespace {

/// Ratings of five attributes (HelpSteer2): noisy linear maps of latent factors, which the features
/// show through a random map. `gold` is a hidden utility that mixes the attributes.
class AttributeRatings final : public GeneratedRows {
 public:
  struct Config {
    GeneratedKeys keys;
    int64_t num_factors = 5, num_features = 16;
    double feature_noise = 0.1, rating_noise = 0.25, missing_share = 0.1;
    std::vector<std::string> attributes = {"helpfulness", "correctness", "coherence", "complexity",
                                           "verbosity"};
    std::vector<double> weights = {0.65, 0.8, 0.45, 0.55, -0.4};
    void fields(FieldVisitor& v) {
      keys.fields(v);
      v.field("num_factors", num_factors, "Latent factors.");
      v.field("num_features", num_features, "Numbers of a response.");
      v.field("feature_noise", feature_noise, "Deviation of the features.");
      v.field("rating_noise", rating_noise, "Deviation of a rating; attributes have deviation 1.");
      v.field("missing_share", missing_share, "Share of ratings that are not there.");
      v.field("attributes", attributes, "Names of the attributes.");
      v.field("weights", weights, "Weights of the attributes in the hidden utility.");
      v.require(num_factors > 0 && num_features > 0, "num_factors",
                "and num_features must be positive");
      v.require(feature_noise >= 0 && rating_noise >= 0, "rating_noise",
                "and feature_noise must not be negative");
      v.require(missing_share >= 0 && missing_share < 1, "missing_share", "must be in [0, 1)");
      v.require(!attributes.empty() && weights.size() == attributes.size(), "weights",
                "must be as many as attributes, at least one");
    }
  };
  explicit AttributeRatings(const Config& config) {
    constexpr uint64_t kTag = 0xa77;
    auto hidden = world(config.keys, kTag);
    std::vector<std::vector<double>> attribute_maps, feature_maps;
    for (size_t k = 0; k < config.attributes.size(); ++k)
      attribute_maps.push_back(hidden.direction(config.num_factors, 1.0));
    for (int64_t d = 0; d < config.num_features; ++d)
      feature_maps.push_back(hidden.direction(config.num_factors, 1.0));
    for (int64_t i = 0; i < config.keys.num_rows; ++i) {
      auto random = row_stream(config.keys, kTag, i);
      const auto factors = random.vector(config.num_factors);
      std::vector<double> features;
      for (const auto& map : feature_maps)
        features.push_back(dot(map, factors) + config.feature_noise * random.next());
      Example example;
      example.extra["features"] = vector_column(as_floats(features));
      double utility = 0.0;
      for (size_t k = 0; k < attribute_maps.size(); ++k) {
        const double value = dot(attribute_maps[k], factors);
        utility += config.weights[k] * value;
        const double rating = value + config.rating_noise * random.next();
        const bool missing = random.uniform() < config.missing_share;
        example.extra[config.attributes[k]] = missing ? "" : as_column(rating);
      }
      example.extra["gold"] = as_column(utility);
      rows_.push_back(std::move(example));
    }
  }
};

MEED_REGISTER(datasets, "attribute_ratings", AttributeRatings,
              "Generated ratings of attributes, as vectors.");

}  // namespace
}  // namespace meed
