#include "libreward/reward_transform.h"

namespace meed {
namespace {

/// factor * r + offset.
class Scale final : public RewardTransform {
 public:
  struct Config {
    static constexpr const char* kShapes = "any";
    double factor = 1.0, offset = 0.0;
    void fields(FieldVisitor& v) {
      v.field("factor", factor, "Multiplies rewards.");
      v.field("offset", offset, "Added afterwards.");
    }
  };
  explicit Scale(const Config& config) : config_(config) {}
  void apply(RewardBatch& rewards) override {
    rewards.for_each([this](double r) { return r * config_.factor + config_.offset; });
  }

 private:
  Config config_;
};

MEED_REGISTER(reward_transforms, "scale", Scale,
              "Multiplies rewards by a factor and adds an offset.");

}  // namespace
}  // namespace meed
