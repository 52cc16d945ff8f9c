#pragma once

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <cmath>

namespace meed {

class Communicator;

/// A deviation this small beside the mean is the rounding of equal values.
constexpr double kMeanRounding = 1e-12;

/// Of the finite values of all ranks.
struct Moments {
  double count = 0.0;
  double mean = 0.0;
  double std = 0.0;  ///< ddof 1 (ddof 0 if asked); 0 with fewer than two values

  /// Whether the values differ by more than the rounding of their mean.
  bool varies() const { return std > kMeanRounding * ::std::max(1.0, ::std::abs(mean)); }
};

/// A collective: every rank calls it, with no values too. Two passes, so that a large common offset
/// costs no precision.
Moments global_moments(const at::Tensor& values, Communicator& comm, bool unbiased = true);

}  // namespace meed
