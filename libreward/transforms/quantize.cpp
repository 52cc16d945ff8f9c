#include <algorithm>
#include <cmath>

#include "libreward/reward_transform.h"

namespace meed {
namespace {

/// A level in {1/levels, ..., 1} for a reward in [min, max]: what a judge who gives marks from 1 to
/// `levels` would say (the absolute score that ExTrans compares with).
class Quantize final : public RewardTransform {
 public:
  struct Config {
    static constexpr const char* kShapes = "any";
    int64_t levels = 5;
    double min = 0.0, max = 1.0;
    void fields(FieldVisitor& v) {
      v.field("levels", levels, "Number of levels.");
      v.field("min", min, "Rewards up to min + (max - min) / levels get the lowest level.");
      v.field("max", max, "Rewards from here on get the highest, 1.");
      v.require(levels > 1, "levels", "must be at least 2");
      v.require(min < max, "max", "must be above min");
    }
  };
  explicit Quantize(const Config& config) : config_(config) {}
  void apply(RewardBatch& rewards) override {
    const auto levels = static_cast<double>(config_.levels);
    rewards.for_each([&](double r) {
      const double place = (r - config_.min) / (config_.max - config_.min);
      return std::clamp(std::floor(place * levels) + 1.0, 1.0, levels) / levels;
    });
  }

 private:
  Config config_;
};

MEED_REGISTER(reward_transforms, "quantize", Quantize, "Marks from 1 to a number of levels.");

}  // namespace
}  // namespace meed
