#pragma once

#include <cstdint>

namespace meed::cuda {

/// The row kernels of models/kernels.h on a GPU, over plain pointers to its memory: launchers on
/// the calling thread's stream, in libmeed_cuda.so. Nothing is added up in an order that varies.
enum class Type { kFloat, kBf16 };

/// Warps of norm_backward, each of which adds up weights' gradients of its own.
constexpr long kNormWarps = 2048;

struct RowKernels {
  /// y = norm(x) weight (+ bias) and, where not null, xhat; x float32 [n, D].
  void (*norm)(Type type, const float* x, long n, long D, const float* weight, const float* bias,
               float eps, bool center, void* xhat, float* rstd, void* y);
  void (*norm_output)(Type type, const void* xhat, long n, long D, const float* weight,
                      const float* bias, void* y);
  /// dx += the input's gradient; d_weight, d_bias (null: not wanted): [kNormWarps, D], added to.
  void (*norm_backward)(Type type, const void* dy, const void* xhat, const float* rstd, long n,
                        long D, const float* weight, bool center, float* dx, float* d_weight,
                        float* d_bias);
  void (*rope)(Type type, void* x, long n, long stride, long heads, long half, const float* cosine,
               const float* sine, float sign);
  /// kind: kernels::Activation.
  void (*activate)(Type type, const void* in, long n, long F, bool gated, int kind, void* y);
  void (*activate_backward)(Type type, void* in, void* dy, long n, long F, bool gated, int kind);
  /// entropy: null where it is not wanted.
  void (*logit_statistics)(Type type, const void* logits, long n, long V, const int64_t* targets,
                           float scale, float* logprobs, float* lse, float* correct,
                           float* entropy);
  /// d_logprobs, d_entropy: null for zeros.
  void (*logit_gradient)(Type type, void* logits, long n, long V, const int64_t* targets,
                         float scale, const float* lse, const float* entropy,
                         const float* d_logprobs, const float* d_entropy);
};

}  // namespace meed::cuda
