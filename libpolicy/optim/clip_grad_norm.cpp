#include "libpolicy/optim/clip_grad_norm.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <cmath>
#include <map>
#include <string>
#include <vector>

namespace meed {

double clip_grad_norm(std::span<const at::Tensor> parameters, double max_norm) {
  at::NoGradGuard no_grad;
  // By device, so that each is waited for once.
  std::map<std::string, std::vector<at::Tensor>> norms;
  for (const auto& parameter : parameters)
    if (const auto& gradient = parameter.grad(); gradient.defined())
      norms[gradient.device().str()].push_back(at::norm(gradient).to(at::kDouble));
  double squares = 0.0;
  for (const auto& [device, of_device] : norms)
    squares += at::stack(of_device).square().sum().item<double>();
  const double norm = std::sqrt(squares);
  constexpr double kEpsilon = 1e-6;  // as torch.nn.utils.clip_grad_norm_
  const double scale = max_norm / (norm + kEpsilon);
  if (max_norm <= 0.0 || !std::isfinite(norm) || scale >= 1.0) return norm;
  for (const auto& parameter : parameters)
    if (parameter.grad().defined()) parameter.mutable_grad().mul_(scale);
  return norm;
}

}  // namespace meed
