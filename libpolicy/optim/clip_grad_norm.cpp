#include "libpolicy/optim/clip_grad_norm.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <cmath>
#include <vector>

namespace meed {

double clip_grad_norm(std::span<const at::Tensor> parameters, double max_norm) {
  at::NoGradGuard no_grad;
  std::vector<at::Tensor> norms;
  for (const auto& parameter : parameters)
    if (parameter.grad().defined()) norms.push_back(at::norm(parameter.grad()).to(at::kDouble));
  if (norms.empty()) return 0.0;
  const double norm = at::stack(norms).square().sum().sqrt().item<double>();
  constexpr double kEpsilon = 1e-6;  // as torch.nn.utils.clip_grad_norm_
  const double scale = max_norm / (norm + kEpsilon);
  if (max_norm <= 0.0 || !std::isfinite(norm) || scale >= 1.0) return norm;
  for (const auto& parameter : parameters)
    if (parameter.grad().defined()) parameter.mutable_grad().mul_(scale);
  return norm;
}

}  // namespace meed
