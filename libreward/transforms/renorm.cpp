#include <ATen/ATen.h>

#include <cmath>

#include "libreward/reward_transform.h"

namespace meed {
namespace {

/// Principle process reward with ReNorm: R_t = r_p,t + r_o - 1 for every step but the last, which
/// gets the outcome r_o (r_o - 1/2 if centred). A good step of a failed trajectory and a poor step
/// of a successful one get about 0. The last step is the outcome itself: an optimiser that reads
/// the steps does not add the outcome again, one that does not still reads it.
class Renorm final : public RewardTransform {
 public:
  struct Config {
    static constexpr const char* kShapes = "outcome step";
    bool centre = true, centred_outcome = false;
    void fields(FieldVisitor& v) {
      v.field("centre", centre, "False leaves the -1 out: the plain sum r_p,t + r_o.");
      v.field("centred_outcome", centred_outcome, "The last step gets r_o - 1/2 instead of r_o.");
    }
  };
  explicit Renorm(const Config& config) : config_(config) {}
  void apply(RewardBatch& rewards) override {
    const auto outcome = rewards.outcome_PG.to(at::kDouble).contiguous();
    const auto* r_o = outcome.data_ptr<double>();
    for (size_t p = 0, i = 0; p < rewards.steps_PGS.size(); ++p) {
      for (auto& steps : rewards.steps_PGS[p]) {
        const double success = r_o[i++];
        if (steps.empty() || std::isnan(success)) continue;
        for (double& step : steps) step += success - (config_.centre ? 1.0 : 0.0);
        steps.back() = config_.centred_outcome ? success - 0.5 : success;
      }
    }
    rewards.steps_hold_outcome = true;
  }

 private:
  Config config_;
};

MEED_REGISTER(reward_transforms, "renorm", Renorm,
              "Step rewards centred by the outcome; the last step gets the outcome (ReNorm).");

}  // namespace
}  // namespace meed
