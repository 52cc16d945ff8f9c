#include "libreward/data/generated_rows.h"

namespace meed {
namespace {

/// Preferences of people of several tastes (MiCRo): a pair is labelled by Bradley and Terry's model
/// under its person's taste; the second taste is the opposite of the first. The prompt says little
/// of the taste; the person's group, behind it in the context, says it all where it is known.
class ThreeTastes final : public GeneratedRows {
 public:
  struct Config {
    GeneratedKeys keys;
    int64_t num_tastes = 3, num_features = 8, num_prompt_features = 4;
    double taste_length = 3.0, context_strength = 0.3;
    bool user_known = false;
    void fields(FieldVisitor& v) {
      keys.fields(v);
      v.field("num_tastes", num_tastes, "Tastes, all as frequent.");
      v.field("num_features", num_features, "Numbers of a response.");
      v.field("num_prompt_features", num_prompt_features, "Numbers of a prompt.");
      v.field("taste_length", taste_length, "Length of a taste: how decided people are.");
      v.field("context_strength", context_strength, "How much a prompt says of the taste.");
      v.field("user_known", user_known, "Give the person's group behind the prompt; else zeros.");
      v.require(num_tastes >= 2, "num_tastes", "must be at least 2");
      v.require(num_features > 0 && num_prompt_features > 0, "num_features",
                "and num_prompt_features must be positive");
    }
  };
  explicit ThreeTastes(const Config& config) {
    constexpr uint64_t kTag = 0x7a57e;
    auto hidden = world(config.keys, kTag);
    std::vector<std::vector<double>> tastes, prompts;
    for (int64_t k = 0; k < config.num_tastes; ++k) {
      tastes.push_back(hidden.direction(config.num_features, config.taste_length));
      if (k == 1)
        for (size_t d = 0; d < tastes[1].size(); ++d) tastes[1][d] = -tastes[0][d];
      prompts.push_back(hidden.vector(config.num_prompt_features, 2.0));
    }
    for (int64_t i = 0; i < config.keys.num_rows; ++i) {
      auto random = row_stream(config.keys, kTag, i);
      const auto z = static_cast<size_t>(random.next_int(0, config.num_tastes - 1));
      auto context = random.vector(config.num_prompt_features);
      for (size_t d = 0; d < context.size(); ++d)
        context[d] += config.context_strength * prompts[z][d];
      for (size_t k = 0; k < tastes.size(); ++k)
        context.push_back(config.user_known && k == z ? 1.0 : 0.0);
      // Their difference has unit variance.
      auto a = random.vector(config.num_features, std::sqrt(0.5));
      auto b = random.vector(config.num_features, std::sqrt(0.5));
      const double difference = dot(tastes[z], a) - dot(tastes[z], b);
      if (random.uniform() >= 1.0 / (1.0 + std::exp(-difference))) std::swap(a, b);
      rows_.push_back(pair(a, b, dot(tastes[z], a), dot(tastes[z], b)));
      rows_.back().extra["context_features"] = vector_column(as_floats(context));
      rows_.back().extra["cluster"] = std::to_string(z);
    }
  }
};

MEED_REGISTER(datasets, "three_tastes", ThreeTastes,
              "Generated preferences of people of several tastes, as vectors.");

}  // namespace
}  // namespace meed
