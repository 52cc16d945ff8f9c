#pragma once

namespace meed {

/// The length constraint of InternLM-XComposer2.5-Reward: whether a pair stays, whose chosen side
/// has `chosen` and whose rejected side `rejected` tokens (or any unit).
bool keeps_length(double chosen, double rejected, double max_ratio = 1.5);

}  // namespace meed
