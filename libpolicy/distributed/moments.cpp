#include "libpolicy/distributed/moments.h"

#include <ATen/ATen.h>

#include <cmath>

#include "libpolicy/distributed/communicator.h"

namespace meed {

Moments global_moments(const at::Tensor& values, Communicator& comm, bool unbiased) {
  const auto doubles = values.to(at::kDouble);
  const auto finite = doubles.masked_select(doubles.isfinite());
  at::Tensor sums =
      at::stack({finite.sum(), at::full({}, static_cast<double>(finite.numel()), at::kDouble)});
  comm.all_reduce(sums, ReduceOp::kSum);
  Moments moments{.count = sums[1].item<double>()};
  if (moments.count > 0) moments.mean = sums[0].item<double>() / moments.count;
  at::Tensor squares = (finite - moments.mean).square().sum().reshape({1});
  comm.all_reduce(squares, ReduceOp::kSum);
  const double divisor = moments.count - (unbiased ? 1.0 : 0.0);
  if (moments.count > 1) moments.std = std::sqrt(squares.item<double>() / divisor);
  return moments;
}

}  // namespace meed
