#pragma once

#include <ATen/core/Tensor.h>

#include "libpolicy/models/attention.h"
#include "libpolicy/models/row_ops.h"

/// The operations of row_ops.h, attention.h and token_logprobs.h out of ATen's, for models on
/// another device than the CPU; those headers hand tensors there on to these. They take any device.
namespace meed::device {

at::Tensor norm_forward(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                        const NormSettings& settings, at::ScalarType dtype, at::Tensor* xhat,
                        at::Tensor* rstd);
at::Tensor norm_output(const at::Tensor& xhat, const at::Tensor& weight, const at::Tensor& bias);
void norm_backward(const at::Tensor& dy, const at::Tensor& xhat, const at::Tensor& rstd,
                   const at::Tensor& weight, const at::Tensor& bias, const NormSettings& settings,
                   const at::Tensor& dx);
void rotate(const at::Tensor& x, int64_t heads, int64_t head_dim, const at::Tensor& cosine,
            const at::Tensor& sine, float sign);
at::Tensor activate(const at::Tensor& in, bool gated, kernels::Activation kind);
void activate_backward(const at::Tensor& in, const at::Tensor& dy, bool gated,
                       kernels::Activation kind);

/// Sequences of about the same length go through scaled_dot_product_attention together, a prefix
/// once with each segment that shares it. Deterministic where that function is.
at::Tensor attention_forward(const at::Tensor& qkv_NC, const PackedBatch& batch,
                             const AttentionShape& shape);
at::Tensor attention_backward(const at::Tensor& qkv_NC, const at::Tensor& d_out_NC,
                              const PackedBatch& batch, const AttentionShape& shape);

/// What is kept of a chunk of logits [rows, V]; float32 [rows].
struct LogitStatistics {
  at::Tensor logprobs, lse, correct;
  at::Tensor entropy;  ///< undefined unless asked for
};
LogitStatistics logit_statistics(const at::Tensor& logits, const at::Tensor& targets, float scale,
                                 bool with_entropy);
/// Overwrites logits by the gradient of sum(d_logprobs logprobs + d_entropy entropy); either may be
/// undefined.
void logit_gradient(const at::Tensor& logits, const at::Tensor& targets, float scale,
                    const at::Tensor& lse, const at::Tensor& entropy, const at::Tensor& d_logprobs,
                    const at::Tensor& d_entropy);

}  // namespace meed::device
