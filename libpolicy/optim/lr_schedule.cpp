#include "libpolicy/optim/lr_schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "libpolicy/core/error.h"

namespace meed {

LrSchedule::LrSchedule(std::string type, double learning_rate, int64_t warmup_steps,
                       int64_t total_steps)
    : type_(std::move(type)),
      learning_rate_(learning_rate),
      warmup_steps_(warmup_steps),
      total_steps_(total_steps) {
  MEED_CHECK(type_ == "linear" || type_ == "cosine" || type_ == "constant" ||
                 type_ == "constant_with_warmup",
             "unknown schedule " + type_);
}

double LrSchedule::at(int64_t step) const {
  if (type_ == "constant") return learning_rate_;
  if (step < warmup_steps_)
    return learning_rate_ * static_cast<double>(step) /
           static_cast<double>(std::max<int64_t>(1, warmup_steps_));
  if (type_ == "constant_with_warmup") return learning_rate_;
  const auto rest = static_cast<double>(std::max<int64_t>(1, total_steps_ - warmup_steps_));
  const double done = static_cast<double>(step - warmup_steps_) / rest;
  if (type_ == "linear") return learning_rate_ * std::max(0.0, 1.0 - done);
  return learning_rate_ * std::max(0.0, 0.5 * (1.0 + std::cos(std::numbers::pi * done)));
}

}  // namespace meed
