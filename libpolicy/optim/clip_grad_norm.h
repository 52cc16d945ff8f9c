#pragma once

#include <ATen/core/Tensor.h>

#include <span>

namespace meed {

/// Global L2 norm of the gradients; scales them by max_norm / (norm + 1e-6) where that is below 1
/// (max_norm 0: never). A norm that is not finite is returned and nothing is scaled.
double clip_grad_norm(std::span<const at::Tensor> parameters, double max_norm);

}  // namespace meed
