#pragma once

#include <ATen/core/Tensor.h>

namespace meed {

class Communicator;

/// Of the finite values of all ranks.
struct Moments {
  double count = 0.0;
  double mean = 0.0;
  double std = 0.0;  ///< ddof 1 (ddof 0 if asked); 0 with fewer than two values
};

/// A collective: every rank calls it, with no values too. Two passes, so that a large common offset
/// costs no precision.
Moments global_moments(const at::Tensor& values, Communicator& comm, bool unbiased = true);

}  // namespace meed
