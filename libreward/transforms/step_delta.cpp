#include "libreward/reward_transform.h"

namespace meed {
namespace {

/// g_k = q_k - q_{k+1}; the last but one step keeps q and the last gets 0, so that the return from
/// step k is q_k and the total is q_1 whatever the number of steps. Gao et al. 2024, "Delta"; after
/// step_clip it is their recommended pair. One step alone gets 0: it is the last.
class StepDelta final : public RewardTransform {
 public:
  struct Config {
    static constexpr const char* kShapes = "step";
    void fields(FieldVisitor&) {}
  };
  explicit StepDelta(const Config&) {}
  void apply(RewardBatch& rewards) override {
    for (auto& group : rewards.steps_PGS) {
      for (auto& steps : group) {
        for (size_t k = 0; k + 2 < steps.size(); ++k) steps[k] -= steps[k + 1];
        if (!steps.empty()) steps.back() = 0.0;
      }
    }
  }
};

MEED_REGISTER(reward_transforms, "step_delta", StepDelta,
              "Each step's score less the next one's, so that returns telescope (Delta).");

}  // namespace
}  // namespace meed
