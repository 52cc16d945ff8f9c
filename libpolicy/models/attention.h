#pragma once

#include <ATen/core/Tensor.h>

#include "libpolicy/models/packed_batch.h"

namespace meed {

/// Who may attend to whom, and the shape of the heads.
struct AttentionShape {
  int64_t num_heads = 0, num_kv_heads = 0, head_dim = 0;
  int64_t sliding_window = 0;  ///< a query sees this many last keys, itself included; 0: all
  bool causal = true;  ///< false: every token of a segment sees the whole segment (encoders)
};

/// Block-diagonal attention over packed segments, shared prefixes included.
/// qkv_NC: rows [q | k | v], C = (num_heads + 2 num_kv_heads) head_dim, rotated already; float32 or
/// bfloat16, contiguous. Writes lse_NH (float32 log-sum-exp of the scaled scores) for the backward
/// unless it is undefined (other devices than the CPU leave it alone, device_ops.h). Returns [N,
/// num_heads head_dim] in qkv's dtype. Scores and sums are float32; memory beyond the result is one
/// block of queries against one sequence, per thread.
at::Tensor attention_forward(const at::Tensor& qkv_NC, const PackedBatch& batch,
                             const AttentionShape& shape, const at::Tensor& lse_NH);

/// Gradient of the above with respect to qkv_NC; recomputes the scores block by block.
at::Tensor attention_backward(const at::Tensor& qkv_NC, const at::Tensor& out_NC,
                              const at::Tensor& lse_NH, const at::Tensor& d_out_NC,
                              const PackedBatch& batch, const AttentionShape& shape);

}  // namespace meed
