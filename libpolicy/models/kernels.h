#pragma once

#include <cstdint>

namespace meed::kernels {

/// Row kernels over plain pointers, compiled for several instruction sets in one file and chosen at
/// start-up. Single-threaded: callers split rows over threads. T is float or Bf16; statistics and
/// accumulation are float32.
using Bf16 = uint16_t;  ///< bit pattern of a bfloat16

enum class Activation { kSilu, kGelu, kGeluTanh };

/// RMSNorm, or LayerNorm where `center`; y = xhat * weight (+ bias). D columns.
struct NormArgs {
  const float* weight = nullptr;
  const float* bias = nullptr;
  long D = 0;
  float eps = 0;
  bool center = false;
};

struct RowStatistics {
  float lse;      ///< log sum exp(scale * x)
  float entropy;  ///< of softmax(scale * x), nats; 0 unless asked for
  float max;      ///< of x
};

struct SoftmaxRow {
  float lse, sum;  ///< log sum exp(x); sum of what stands in the row
};

#define MEED_KERNEL_LIST(X)                                                                        \
  X(void, norm, (const float* x, long n, const NormArgs& a, float* xhat, float* rstd, float* y),   \
    (x, n, a, xhat, rstd, y))                                                                      \
  X(void, norm, (const float* x, long n, const NormArgs& a, Bf16* xhat, float* rstd, Bf16* y),     \
    (x, n, a, xhat, rstd, y))                                                                      \
  X(void, norm_output, (const float* xhat, long n, const NormArgs& a, float* y), (xhat, n, a, y))  \
  X(void, norm_output, (const Bf16* xhat, long n, const NormArgs& a, Bf16* y), (xhat, n, a, y))    \
  X(void, norm_backward,                                                                           \
    (const float* dy, const float* xhat, const float* rstd, long n, const NormArgs& a, float* dx,  \
     float* dw, float* db),                                                                        \
    (dy, xhat, rstd, n, a, dx, dw, db))                                                            \
  X(void, norm_backward,                                                                           \
    (const Bf16* dy, const Bf16* xhat, const float* rstd, long n, const NormArgs& a, float* dx,    \
     float* dw, float* db),                                                                        \
    (dy, xhat, rstd, n, a, dx, dw, db))                                                            \
  X(void, convert, (const float* x, long n, float scale, float* y), (x, n, scale, y))              \
  X(void, convert, (const Bf16* x, long n, float scale, float* y), (x, n, scale, y))               \
  X(void, convert, (const float* x, long n, float scale, Bf16* y), (x, n, scale, y))               \
  X(void, accumulate, (const float* x, long n, float* y), (x, n, y))                               \
  X(void, accumulate, (const Bf16* x, long n, float* y), (x, n, y))                                \
  X(void, add_bias, (float* x, long n, long D, const float* bias), (x, n, D, bias))                \
  X(void, add_bias, (Bf16 * x, long n, long D, const float* bias), (x, n, D, bias))                \
  X(void, rope,                                                                                    \
    (float* x, long n, long stride, long heads, long half, const float* c, const float* s,         \
     float sign),                                                                                  \
    (x, n, stride, heads, half, c, s, sign))                                                       \
  X(void, rope,                                                                                    \
    (Bf16 * x, long n, long stride, long heads, long half, const float* c, const float* s,         \
     float sign),                                                                                  \
    (x, n, stride, heads, half, c, s, sign))                                                       \
  X(void, activate, (const float* in, long n, long F, bool gated, Activation kind, float* y),      \
    (in, n, F, gated, kind, y))                                                                    \
  X(void, activate, (const Bf16* in, long n, long F, bool gated, Activation kind, Bf16* y),        \
    (in, n, F, gated, kind, y))                                                                    \
  X(void, activate_backward, (float* in, float* dy, long n, long F, bool gated, Activation kind),  \
    (in, dy, n, F, gated, kind))                                                                   \
  X(void, activate_backward, (Bf16 * in, Bf16 * dy, long n, long F, bool gated, Activation kind),  \
    (in, dy, n, F, gated, kind))                                                                   \
  X(SoftmaxRow, softmax_row, (float* x, long first, long last, long n), (x, first, last, n))       \
  X(void, probabilities_row, (float* x, long first, long last, long n, float lse),                 \
    (x, first, last, n, lse))                                                                      \
  X(void, score_gradient_row, (const float* p, float* dp, long n, float delta), (p, dp, n, delta)) \
  X(float, dot, (const float* a, const float* b, long n), (a, b, n))                               \
  X(float, dot, (const Bf16* a, const Bf16* b, long n), (a, b, n))                                 \
  X(RowStatistics, row_statistics, (const float* x, long n, float scale, bool entropy),            \
    (x, n, scale, entropy))                                                                        \
  X(RowStatistics, row_statistics, (const Bf16* x, long n, float scale, bool entropy),             \
    (x, n, scale, entropy))                                                                        \
  X(void, logit_gradient,                                                                          \
    (float* x, long n, float scale, float lse, float entropy, float d_logprob, float d_entropy),   \
    (x, n, scale, lse, entropy, d_logprob, d_entropy))                                             \
  X(void, logit_gradient,                                                                          \
    (Bf16 * x, long n, float scale, float lse, float entropy, float d_logprob, float d_entropy),   \
    (x, n, scale, lse, entropy, d_logprob, d_entropy))

// norm              y = norm(x), saving xhat (may be null) and rstd [n]
// norm_output       y from a saved xhat
// norm_backward     dx += ...; dw, db (may be null) += ...
// convert           y = scale * x;   accumulate: y += x;   add_bias: each row += bias
// rope              rotates `heads` heads of 2 * half values at the start of each row; sign -1
// undoes it;
//                   c, s: cosines and sines [n, half]
// activate          y [n, F] = act(in) or act(gate) * up with in [n, 2F] = [gate, up]
// activate_backward in -> its gradient, dy -> the activation's output
// softmax_row       x[first, last) -> exp(x - max), the rest of [0, n) -> 0
// probabilities_row x[first, last) -> exp(x - lse), the rest -> 0
// score_gradient_row dp -> p * (dp - delta)
// logit_gradient    logits -> gradient of d_logprob * logprob + d_entropy * entropy, without the
//                   target's + d_logprob * scale
#define MEED_DECLARE(R, name, params, args) R name params;
MEED_KERNEL_LIST(MEED_DECLARE)
#undef MEED_DECLARE

}  // namespace meed::kernels
