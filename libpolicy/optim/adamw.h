#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <utility>
#include <vector>

#include "libpolicy/checkpoint/state_dict.h"

namespace meed {

struct AdamWOptions {
  double beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8, weight_decay = 0.0;
};

/// AdamW (Loshchilov and Hutter 2019) over at::_fused_adamw_ on float32 parameters. As in
/// transformers, tensors of one dimension (norms, biases) have no weight decay. Parameters without
/// a gradient stay as they are.
class AdamW {
 public:
  using NamedParameters = std::vector<std::pair<std::string, at::Tensor>>;
  AdamW(NamedParameters parameters, const AdamWOptions& options);

  void step(double learning_rate);
  /// Frees the gradients.
  void zero_grad();
  /// "exp_avg.NAME", "exp_avg_sq.NAME" and the number of steps; tensors are shared, not copied.
  StateDict state_dict() const;
  /// Throws DataError naming what is missing or misshapen.
  void load_state_dict(const StateDict& state);

 private:
  struct Slot {
    std::string name;
    at::Tensor parameter, exp_avg, exp_avg_sq;
  };
  AdamWOptions options_;
  std::vector<Slot> slots_;
  int64_t steps_ = 0;
};

}  // namespace meed
