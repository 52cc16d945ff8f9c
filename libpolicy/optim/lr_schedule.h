#pragma once

#include <cstdint>
#include <string>

namespace meed {

/// Learning rate by step, as transformers' get_scheduler: linear warm-up from 0, then "linear" to
/// 0, half a "cosine" to 0, or "constant" ("constant" has no warm-up, "constant_with_warmup" has).
class LrSchedule {
 public:
  LrSchedule(std::string type, double learning_rate, int64_t warmup_steps, int64_t total_steps);
  /// For the update after `step` updates were done.
  double at(int64_t step) const;

 private:
  std::string type_;
  double learning_rate_;
  int64_t warmup_steps_, total_steps_;
};

}  // namespace meed
