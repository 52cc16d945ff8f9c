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
    if (buckets_.empty() || bytes + size > bucket_bytes ||
        buckets_.back().back().device() != parameter.device()) {
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
    // One number a parameter at the end says how many ranks have a gradient: without any it stays
    // undefined, as with one process, and the optimiser leaves the parameter alone.
    const auto count = static_cast<int64_t>(bucket.size());
    at::Tensor has_gradient = at::zeros({count}, at::kFloat);
    std::vector<at::Tensor> parts;
    for (int64_t i = 0; i < count; ++i) {
      const auto& parameter = bucket[static_cast<size_t>(i)];
      const bool defined = parameter.grad().defined();
      has_gradient.data_ptr<float>()[i] = defined ? 1.0F : 0.0F;
      parts.push_back(defined ? parameter.grad().flatten()
                              : at::zeros({parameter.numel()}, parameter.options()));
    }
    parts.push_back(has_gradient.to(parts[0].device()));
    at::Tensor flat = at::cat(parts);
    parts.clear();
    comm_.all_reduce(flat, ReduceOp::kSum);
    const at::Tensor num_ranks = flat.narrow(0, flat.numel() - count, count).cpu();
    int64_t offset = 0;
    for (int64_t i = 0; i < count; ++i) {
      auto& parameter = bucket[static_cast<size_t>(i)];
      const auto sum = flat.narrow(0, offset, parameter.numel()).view(parameter.sizes());
      offset += parameter.numel();
      if (num_ranks.data_ptr<float>()[i] == 0.0F) continue;
      if (parameter.grad().defined())
        parameter.mutable_grad().copy_(sum);
      else
        parameter.mutable_grad() = sum.clone();
    }
  }
}

}  // namespace meed
