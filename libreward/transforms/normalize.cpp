#include <ATen/ATen.h>

#include <cmath>

#include "libpolicy/distributed/moments.h"
#include "libreward/reward_transform.h"

namespace meed {
namespace {

/// r less a mean and divided by (std + epsilon). over: group, a prompt's completions; batch, all
/// completions of all ranks; running, all since the run began (Welford's update, all ranks).
class Normalize final : public RewardTransform {
 public:
  struct Config {
    static constexpr const char* kShapes = "outcome";
    std::string over = "group";
    bool centre = true, scale = true;
    double epsilon = 1e-4;
    std::optional<double> max_abs;
    std::string beyond = "clamp";
    void fields(FieldVisitor& v) {
      v.choice("over", over, {"group", "batch", "running"}, "What mean and deviation are of.");
      v.field("centre", centre, "Subtract the mean.");
      v.field("scale", scale, "Divide by the standard deviation (ddof 1).");
      v.field("epsilon", epsilon, "Added to the standard deviation.");
      v.field("max_abs", max_abs, "Limit of the result, such as 3 for a 3-sigma filter.");
      v.choice("beyond", beyond, {"clamp", "zero"},
               "What becomes of a result beyond max_abs: the limit, or 0 (StableReinforce).");
      v.require(epsilon >= 0, "epsilon", "must not be negative");
      v.require(centre || scale, "scale", "must be true where centre is false");
      v.require(!max_abs || *max_abs > 0, "max_abs", "must be positive, or null");
    }
  };
  Normalize(const Config& config, RunContext& context) : config_(config), comm_(context.comm) {}

  void apply(RewardBatch& rewards) override {
    auto values = rewards.outcome_PG.to(at::kDouble).contiguous().clone();
    if (config_.over == "group") {
      for (int64_t p = 0; p < values.size(0); ++p) {
        const auto known = values[p].masked_select(values[p].isfinite());
        const auto count = static_cast<double>(known.numel());
        if (count > 0)
          shift(values[p],
                {count, known.mean().item<double>(), count > 1 ? known.std().item<double>() : 0.0});
      }
    } else {
      auto moments = global_moments(values, comm_);
      if (config_.over == "running") {
        if (rewards.training) merge(moments);
        if (seen_.count > 0) moments = seen_;
      }
      shift(values, moments);
    }
    rewards.outcome_PG = values;
  }

  void save(StateDict& state) const override {
    state.numbers["count"] = seen_.count;
    state.numbers["mean"] = seen_.mean;
    state.numbers["std"] = seen_.std;
  }
  void load(const StateDict& state) override {
    seen_ = {state.numbers.at("count"), state.numbers.at("mean"), state.numbers.at("std")};
  }

 private:
  void shift(at::Tensor values, const Moments& moments) const {
    if (config_.centre) values.sub_(moments.mean);
    // Equal rewards say nothing: the quotient by epsilon alone would be rounding error.
    if (config_.scale) values.div_(moments.varies() ? moments.std + config_.epsilon : 1.0);
    if (!config_.max_abs) return;
    const double limit = *config_.max_abs;
    if (config_.beyond == "clamp")
      values.clamp_(-limit, limit);
    else
      values.masked_fill_(values.abs() > limit, 0.0);
  }

  /// Chan's update of the moments seen so far.
  void merge(const Moments& batch) {
    const double count = seen_.count + batch.count;
    if (batch.count == 0) return;
    const double difference = batch.mean - seen_.mean;
    const auto squares = [](const Moments& m) {
      return m.count > 1 ? m.std * m.std * (m.count - 1) : 0.0;
    };
    const double sum = squares(seen_) + squares(batch) +
                       difference * difference * seen_.count * batch.count / count;
    seen_ = {count, seen_.mean + difference * batch.count / count,
             count > 1 ? std::sqrt(sum / (count - 1)) : 0.0};
  }

  Config config_;
  Communicator& comm_;
  Moments seen_;
};

MEED_REGISTER(reward_transforms, "normalize", Normalize,
              "Centres and scales rewards over a group, the batch or the whole run.");

}  // namespace
}  // namespace meed
