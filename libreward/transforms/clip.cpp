#include <algorithm>

#include "libreward/reward_transform.h"

namespace meed {
namespace {

/// min(max(r, min), max).
class Clip final : public RewardTransform {
 public:
  struct Config {
    static constexpr const char* kShapes = "any";
    double min = -1.0, max = 1.0;
    void fields(FieldVisitor& v) {
      v.field("min", min, "Smallest reward.");
      v.field("max", max, "Largest reward.");
      v.require(min < max, "max", "must be above min");
    }
  };
  explicit Clip(const Config& config) : config_(config) {}
  void apply(RewardBatch& rewards) override {
    rewards.for_each([this](double r) { return std::clamp(r, config_.min, config_.max); });
  }

 private:
  Config config_;
};

MEED_REGISTER(reward_transforms, "clip", Clip, "Keeps rewards within [min, max].");

}  // namespace
}  // namespace meed
