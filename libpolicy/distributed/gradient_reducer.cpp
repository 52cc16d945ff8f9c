#include "libpolicy/distributed/gradient_reducer.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "libpolicy/distributed/communicator.h"

namespace meed {

GradientReducer::GradientReducer(Communicator& comm, std::vector<at::Tensor> parameters,
                                 int64_t bucket_bytes)
    : comm_(comm) {
  int64_t bytes = 0;
  for (auto& parameter : parameters) {
    const int64_t size = parameter.numel() * static_cast<int64_t>(sizeof(float));
    if (buckets_.empty() || bytes + size > bucket_bytes) {
      buckets_.emplace_back();
      bytes = 0;
    }
    bytes += size;
    buckets_.back().push_back(std::move(parameter));
  }
}

void GradientReducer::reduce() {
  if (comm_.size() == 1) return;  // saves the copy into buckets; the result is the same
  at::NoGradGuard no_grad;
  for (auto& bucket : buckets_) {
    std::vector<at::Tensor> parts;
    for (const auto& parameter : bucket)
      parts.push_back(parameter.grad().defined() ? parameter.grad().flatten()
                                                 : at::zeros({parameter.numel()}, at::kFloat));
    at::Tensor flat = at::cat(parts);
    comm_.all_reduce(flat, ReduceOp::kSum);
    int64_t offset = 0;
    for (auto& parameter : bucket) {
      const auto sum = flat.narrow(0, offset, parameter.numel()).view(parameter.sizes());
      offset += parameter.numel();
      if (parameter.grad().defined())
        parameter.mutable_grad().copy_(sum);
      else
        parameter.mutable_grad() = sum.clone();
    }
  }
}

}  // namespace meed
