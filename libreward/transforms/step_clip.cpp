#include <algorithm>

#include "libreward/reward_transform.h"

namespace meed {
namespace {

/// min(q_k - eta, 0) of every step score: only steps below the threshold are punished, so that more
/// steps cannot raise the return. Gao et al. 2024, On designing effective RL reward at training
/// time, "Clip".
class StepClip final : public RewardTransform {
 public:
  struct Config {
    static constexpr const char* kShapes = "step";
    double eta = 0.5;
    void fields(FieldVisitor& v) {
      v.field("eta", eta, "Threshold; a step at or above it gets 0. The median of first scores.");
    }
  };
  explicit StepClip(const Config& config) : config_(config) {}
  void apply(RewardBatch& rewards) override {
    for (auto& group : rewards.steps_PGS)
      for (auto& steps : group)
        for (double& step : steps) step = std::min(step - config_.eta, 0.0);
  }

 private:
  Config config_;
};

MEED_REGISTER(reward_transforms, "step_clip", StepClip,
              "Steps below a threshold are punished, others get 0 (Clip).");

}  // namespace
}  // namespace meed
