#include "libpolicy/core/error.h"
#include "libreward/data/generated_rows.h"

namespace meed {
namespace {

/// Preferences by aspects that are made of criteria (MJ-VIDEO): each criterion is a direction of
/// the features, each aspect the mean of its criteria, and the prompt decides which one aspect the
/// preference is about. `context_features` show the prompt's kind through noise. Columns:
/// chosen_NAME and rejected_NAME of each criterion (aspect_a/criterion_0, ...), NAME of each aspect
/// (1 the chosen is better in it, -1 the rejected) and `aspect`, the one that decided.
class AspectPreferences final : public GeneratedRows {
 public:
  struct Config {
    GeneratedKeys keys;
    std::vector<int64_t> criteria = {5, 6, 6, 6, 5};
    int64_t num_features = 48, num_context = 16;
    double context_noise = 0.5, rating_noise = 0.3, missing_share = 0.1;
    void fields(FieldVisitor& v) {
      keys.fields(v);
      v.field("criteria", criteria, "Criteria of each aspect; aspects are called aspect_a, ...");
      v.field("num_features", num_features, "Numbers of a response.");
      v.field("num_context", num_context, "Numbers of a prompt.");
      v.field("context_noise", context_noise,
              "Deviation of the context from its kind's, whose numbers have deviation 1.");
      v.field("rating_noise", rating_noise, "Deviation of a criterion's label; a criterion has 1.");
      v.field("missing_share", missing_share, "Share of criteria labels that are not there.");
      v.require(!criteria.empty() && criteria.size() <= 26, "criteria", "must be 1 to 26 numbers");
      for (const int64_t count : criteria) v.require(count > 0, "criteria", "must be positive");
      v.require(num_features > 0 && num_context > 0, "num_features",
                "and num_context must be positive");
      v.require(context_noise >= 0 && rating_noise >= 0, "rating_noise",
                "and context_noise must not be negative");
      v.require(missing_share >= 0 && missing_share < 1, "missing_share", "must be in [0, 1)");
    }
  };
  explicit AspectPreferences(const Config& config) {
    constexpr uint64_t kTag = 0xa59ec7;
    auto hidden = world(config.keys, kTag);
    std::vector<Aspect> aspects;
    for (size_t j = 0; j < config.criteria.size(); ++j) {
      Aspect aspect{.name = std::string("aspect_") + static_cast<char>('a' + j)};
      for (int64_t c = 0; c < config.criteria[j]; ++c)
        aspect.criteria.push_back(hidden.direction(config.num_features, 1.0));
      aspect.context = hidden.vector(config.num_context);
      aspects.push_back(std::move(aspect));
    }
    for (int64_t i = 0; i < config.keys.num_rows; ++i) {
      auto random = row_stream(config.keys, kTag, i);
      rows_.push_back(row(config, aspects, random));
    }
  }

 private:
  struct Aspect {
    std::string name;
    std::vector<std::vector<double>> criteria;
    std::vector<double> context;
    double score(const std::vector<double>& features) const {
      double sum = 0.0;
      for (const auto& criterion : criteria) sum += dot(criterion, features);
      return sum / static_cast<double>(criteria.size());
    }
  };

  static Example row(const Config& config, const std::vector<Aspect>& aspects,
                     NormalStream& random) {
    const auto& relevant =
        aspects[static_cast<size_t>(random.next_int(0, static_cast<int64_t>(aspects.size()) - 1))];
    auto first = random.vector(config.num_features), second = random.vector(config.num_features);
    if (relevant.score(first) < relevant.score(second)) std::swap(first, second);
    auto example = pair(first, second, relevant.score(first), relevant.score(second));
    auto context = relevant.context;
    for (auto& value : context) value += config.context_noise * random.next();
    example.extra["context_features"] = vector_column(as_floats(context));
    example.extra["aspect"] = relevant.name;
    for (const auto& aspect : aspects) {
      example.extra[aspect.name] = aspect.score(first) > aspect.score(second) ? "1" : "-1";
      for (size_t c = 0; c < aspect.criteria.size(); ++c)
        for (const auto& [side, features] :
             {std::pair{"chosen_", &first}, {"rejected_", &second}}) {
          const double rating =
              dot(aspect.criteria[c], *features) + config.rating_noise * random.next();
          const bool missing = random.uniform() < config.missing_share;
          example.extra[side + aspect.name + "/criterion_" + std::to_string(c)] =
              missing ? "" : as_column(rating);
        }
    }
    return example;
  }
};

MEED_REGISTER(datasets, "aspect_preferences", AspectPreferences,
              "Generated preferences by aspects made of criteria, as vectors.");

}  // namespace
}  // namespace meed
