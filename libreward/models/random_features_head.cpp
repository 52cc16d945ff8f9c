#include <ATen/ATen.h>

#include <cmath>

#include "libpolicy/core/random.h"
#include "libreward/models/reward_head.h"

namespace meed {
namespace {

/// A linear reward on a frozen random map of the features: what a backbone of another pretraining
/// seed is to a reward model. The map is a function of `map_seed` alone and is not saved.
class RandomFeaturesHead final : public RewardHead {
 public:
  struct Config {
    int64_t width = 64, map_seed = 0, num_shared = 0;
    double feature_share = 1.0;
    std::string activation = "relu";
    void fields(FieldVisitor& v) {
      v.field("width", width, "Numbers that the map gives.");
      v.field("map_seed", map_seed, "Decides the map.");
      v.field("feature_share", feature_share,
              "Share of the features that the map can see; which ones its seed decides.");
      v.field("num_shared", num_shared, "The first so many features every map sees.");
      v.choice("activation", activation, {"none", "relu", "tanh"}, "Of the map.");
      v.require(width > 0, "width", "must be positive");
      v.require(map_seed >= 0, "map_seed", "must not be negative");
      v.require(feature_share > 0 && feature_share <= 1, "feature_share", "must be in (0, 1]");
      v.require(num_shared >= 0, "num_shared", "must not be negative");
    }
  };
  explicit RandomFeaturesHead(const Config& config) : config_(config) {}
  void init(int64_t D, uint64_t seed) override {
    const auto map_seed = static_cast<uint64_t>(config_.map_seed);
    map_WD_ = random_weights({config_.width, D},
                             1.0 / std::sqrt(config_.feature_share * static_cast<double>(D)),
                             mix_seed({map_seed, 1}));
    bias_W_ = random_weights({config_.width}, 0.5, mix_seed({map_seed, 2}));
    for (int64_t d = config_.num_shared; d < D; ++d)
      if (uniform(mix_seed({map_seed, 3}), static_cast<uint64_t>(d)) >= config_.feature_share)
        map_WD_.select(1, d).zero_();
    parameters_.add("score.weight",
                    random_weights({1, config_.width},
                                   1.0 / std::sqrt(static_cast<double>(config_.width)), seed));
  }
  HeadOutput forward(const HeadInput& input) const override {
    const auto& x = input.features_BD;
    const auto as_input = [&](const at::Tensor& values) { return values.to(x.scalar_type()); };
    auto mapped = at::matmul(x, as_input(map_WD_).t()) + as_input(bias_W_);
    if (config_.activation == "relu") mapped = at::relu(mapped);
    if (config_.activation == "tanh") mapped = mapped.tanh();
    const auto outputs_BK = at::matmul(mapped, as_input(parameters_.at("score.weight")).t());
    return {.rewards_B = outputs_BK.squeeze(-1), .outputs_BK = outputs_BK, .hidden_BH = mapped};
  }

 private:
  Config config_;
  at::Tensor map_WD_, bias_W_;
};

MEED_REGISTER(reward_heads, "random_features", RandomFeaturesHead,
              "A linear reward on a frozen random map (Helping or herding).");

}  // namespace
}  // namespace meed
