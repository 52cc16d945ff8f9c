#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "libpolicy/generation/decode_kernels.h"

namespace meed {

/// A weight matrix [out, in] laid out for products with few rows: panels of decode::kPanel output
/// features, so that a product reads the weights once, in order, for up to some tens of rows. Any
/// number of rows works and a row's result does not depend on the others. float32 or bfloat16.
class PackedMatrix {
 public:
  PackedMatrix() = default;
  /// Stacks the rows of `weights` (each [out_i, in], of one dtype). `in` must be even for bfloat16.
  explicit PackedMatrix(const std::vector<at::Tensor>& weights);

  bool defined() const { return storage_.defined(); }
  int64_t out_features() const { return out_; }
  int64_t in_features() const { return in_; }

  /// y [rows, out] (+)= scale * x W^T + bias, over the threads of the pool. x: the weights' dtype,
  /// row length ldx; y: float or T; bias [out] may be null.
  template <typename T, typename Y>
  void multiply(const T* x, int64_t ldx, int64_t rows, Y* y, int64_t ldy,
                const decode::Epilogue& epilogue = {}, bool round = false) const;

 private:
  at::Tensor storage_;  // [panels, in * kPanel]
  int64_t out_ = 0, in_ = 0;
};

}  // namespace meed
