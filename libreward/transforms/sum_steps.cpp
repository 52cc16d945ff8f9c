#include <ATen/ATen.h>

#include <algorithm>
#include <numeric>

#include "libreward/reward_transform.h"

namespace meed {
namespace {

/// The outcome reward becomes one number of the step rewards, which are gone then: what an
/// optimiser without step rewards trains on. A completion without steps keeps its outcome.
class SumSteps final : public RewardTransform {
 public:
  struct Config {
    static constexpr const char* kShapes = "step -> outcome";
    std::string reduce = "sum";
    void fields(FieldVisitor& v) {
      v.choice("reduce", reduce, {"sum", "mean", "min", "last"}, "How steps become one number.");
    }
  };
  explicit SumSteps(const Config& config) : reduce_(config.reduce) {}
  void apply(RewardBatch& rewards) override {
    rewards.outcome_PG = rewards.outcome_PG.to(at::kDouble).contiguous().clone();
    auto* outcome = rewards.outcome_PG.data_ptr<double>();
    for (const auto& group : rewards.steps_PGS)
      for (const auto& steps : group) {
        if (!steps.empty()) *outcome = reduced(steps);
        ++outcome;
      }
    rewards.steps_PGS.clear();
    rewards.steps_hold_outcome = false;
  }

 private:
  double reduced(const std::vector<double>& steps) const {
    if (reduce_ == "last") return steps.back();
    if (reduce_ == "min") return *std::min_element(steps.begin(), steps.end());
    const double sum = std::accumulate(steps.begin(), steps.end(), 0.0);
    return reduce_ == "mean" ? sum / static_cast<double>(steps.size()) : sum;
  }
  std::string reduce_;
};

MEED_REGISTER(
    reward_transforms, "sum_steps", SumSteps,
    "The outcome becomes the sum (mean, least, last) of the step rewards, in their place.");

}  // namespace
}  // namespace meed
