#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

namespace meed {

class Communicator;

/// Sums the gradients of all ranks in flat buckets, in the parameters' order: few large collectives
/// instead of one a tensor. A parameter without a gradient on a rank counts as zeros there; one
/// without a gradient on any rank keeps none.
class GradientReducer {
 public:
  GradientReducer(Communicator& comm, std::vector<at::Tensor> parameters,
                  int64_t bucket_bytes = 25 << 20);
  /// All ranks call it, after the last backward of a step.
  void reduce();

 private:
  Communicator& comm_;
  std::vector<std::vector<at::Tensor>> buckets_;
};

}  // namespace meed
