#pragma once

#include <ATen/core/Tensor.h>

#include "libpolicy/losses/loss_output.h"

namespace meed {

class Communicator;

/// Advantages and returns of one trajectory of T steps, float32 or float64 [T].
struct GaeOutput {
  at::Tensor advantages_T, returns_T;
};

/// Generalised advantage estimation (Schulman et al. 2016): d_t = r_t + gamma V_{t+1} - V_t,
/// A_t = d_t + gamma lam A_{t+1}, return_t = A_t + V_t; after the last step nothing follows.
/// Steps whose mask is 0 (tool output) are passed over: their advantage and return are 0, and their
/// reward counts for the step before them. mask_T may be undefined: all 1. No gradient.
GaeOutput compute_gae(const at::Tensor& rewards_T, const at::Tensor& values_T, double gamma,
                      double lam, const at::Tensor& mask_T = {});

/// (x - mean) / std over the elements of all ranks whose mask is not 0 (population std, as a batch
/// is all there is), 0 elsewhere; with `max_abs` results beyond it become 0 (StableReinforce's
/// 3-sigma filter), as do values that are not finite and values that are all equal. `shift_mean` false adds the mean back. A
/// collective.
at::Tensor whitened(const at::Tensor& values_M, const at::Tensor& mask_M, Communicator& comm,
                    double max_abs = 0.0, bool shift_mean = true);

/// PPO's clipped value loss: 1/2 max((V - R)^2, (clip(V, V_old - c, V_old + c) - R)^2) over the
/// tokens that count, divided by `num_tokens` of the whole update. float32 [M]. Metrics as TRL's
/// PPO: loss/value_avg, val/clipfrac_avg.
LossOutput value_loss(const at::Tensor& values_M, const at::Tensor& old_values_M,
                      const at::Tensor& returns_M, const at::Tensor& mask_M, double cliprange_value,
                      double num_tokens);

}  // namespace meed
