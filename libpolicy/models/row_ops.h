#pragma once

#include <ATen/core/Tensor.h>

#include "libpolicy/models/kernels.h"

namespace meed {

/// The row kernels over tensors, split over threads (on other devices than the CPU: device_ops.h).
/// T: the compute dtype, float32 or bfloat16; tensors are contiguous. Nothing here knows autograd.

struct NormSettings {
  double eps = 1e-5;
  bool center = false;  ///< LayerNorm; else RMSNorm
};

/// x float32 [n, D] -> y T [n, D]; fills xhat (T) and rstd (float32 [n]) if the pointers are given.
at::Tensor norm_forward(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                        const NormSettings& settings, at::ScalarType dtype, at::Tensor* xhat,
                        at::Tensor* rstd);
/// y from a saved xhat.
at::Tensor norm_output(const at::Tensor& xhat, const at::Tensor& weight, const at::Tensor& bias);
/// dx (float32 [n, D]) += the input's gradient; adds to the gradients of weight and bias if they
/// require one.
void norm_backward(const at::Tensor& dy, const at::Tensor& xhat, const at::Tensor& rstd,
                   const at::Tensor& weight, const at::Tensor& bias, const NormSettings& settings,
                   const at::Tensor& dx);

/// float32 x += y (T).
void add_rows(const at::Tensor& x, const at::Tensor& y);
/// T copy of a float32 tensor; the tensor itself where T is float32.
at::Tensor to_compute(const at::Tensor& x, at::ScalarType dtype);

/// Rotates the first `heads` heads of each row in place; sign -1 undoes it.
void rotate(const at::Tensor& x, int64_t heads, int64_t head_dim, const at::Tensor& cosine,
            const at::Tensor& sine, float sign);

/// in [n, 2F] = [gate | up] (gated) or [n, F] -> [n, F].
at::Tensor activate(const at::Tensor& in, bool gated, kernels::Activation kind);
/// Overwrites `in` by its gradient and `dy` by the activation's output.
void activate_backward(const at::Tensor& in, const at::Tensor& dy, bool gated,
                       kernels::Activation kind);

}  // namespace meed
