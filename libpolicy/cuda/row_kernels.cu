#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <type_traits>

#include "libpolicy/cuda/launch.h"
#include "libpolicy/cuda/row_kernels.h"

namespace meed::cuda {
namespace {

using Bf16 = __nv_bfloat16;

constexpr int kWarp = 32, kWarpsInBlock = 8, kThreads = 256;

__device__ float get(float x) { return x; }
__device__ float get(Bf16 x) { return __bfloat162float(x); }
__device__ void put(float* p, float x) { *p = x; }
__device__ void put(Bf16* p, float x) { *p = __float2bfloat16(x); }

__device__ float warp_sum(float x) {
  for (int step = kWarp / 2; step > 0; step /= 2) x += __shfl_xor_sync(0xffffffffu, x, step);
  return x;
}

long warp_blocks(long rows) { return (rows + kWarpsInBlock - 1) / kWarpsInBlock; }

// ---- norms: a warp a row ----

template <typename T>
__global__ void norm_kernel(const float* x, long n, long D, const float* weight, const float* bias,
                            float eps, bool center, T* xhat, float* rstd, T* y) {
  const long row = static_cast<long>(blockIdx.x) * kWarpsInBlock + threadIdx.y;
  if (row >= n) return;
  x += row * D;
  float mean = 0.0f;
  if (center) {
    float total = 0.0f;
    for (long i = threadIdx.x; i < D; i += kWarp) total += x[i];
    mean = warp_sum(total) / static_cast<float>(D);
  }
  float squares = 0.0f;
  for (long i = threadIdx.x; i < D; i += kWarp) squares += (x[i] - mean) * (x[i] - mean);
  const float scale = rsqrtf(warp_sum(squares) / static_cast<float>(D) + eps);
  if (threadIdx.x == 0) rstd[row] = scale;
  for (long i = threadIdx.x; i < D; i += kWarp) {
    const float hat = (x[i] - mean) * scale;
    if (xhat) put(xhat + row * D + i, hat);
    put(y + row * D + i, hat * weight[i] + (bias ? bias[i] : 0.0f));
  }
}

template <typename T>
__global__ void norm_output_kernel(const T* xhat, long D, const float* weight, const float* bias,
                                   T* y) {
  const long row = blockIdx.x;
  for (long i = threadIdx.x; i < D; i += blockDim.x)
    put(y + row * D + i, get(xhat[row * D + i]) * weight[i] + (bias ? bias[i] : 0.0f));
}

// dx += rstd (g - [mean g] - xhat mean(g xhat)), g = dy w.
template <typename T>
__global__ void norm_backward_kernel(const T* dy, const T* xhat, const float* rstd, long n, long D,
                                     const float* weight, bool center, float* dx, float* d_weight,
                                     float* d_bias) {
  const long warp = static_cast<long>(blockIdx.x) * kWarpsInBlock + threadIdx.y;
  for (long row = warp; row < n; row += kNormWarps) {
    const T* d = dy + row * D;
    const T* hat = xhat + row * D;
    float g_sum = 0.0f, gh_sum = 0.0f;
    for (long i = threadIdx.x; i < D; i += kWarp) {
      const float g = get(d[i]) * weight[i];
      g_sum += g;
      gh_sum += g * get(hat[i]);
    }
    const float mean_g = center ? warp_sum(g_sum) / static_cast<float>(D) : 0.0f;
    const float mean_gh = warp_sum(gh_sum) / static_cast<float>(D);
    const float scale = rstd[row];
    for (long i = threadIdx.x; i < D; i += kWarp) {
      const float slope = get(d[i]), h = get(hat[i]);
      dx[row * D + i] += scale * (slope * weight[i] - mean_g - h * mean_gh);
      if (d_weight) d_weight[warp * D + i] += slope * h;
      if (d_bias) d_bias[warp * D + i] += slope;
    }
  }
}

// ---- rotation and activations: a block a row ----

template <typename T>
__global__ void rope_kernel(T* x, long stride, long heads, long half, const float* cosine,
                            const float* sine, float sign) {
  const long row = blockIdx.x;
  for (long j = threadIdx.x; j < heads * half; j += blockDim.x) {
    const long i = j % half;
    T* first = x + row * stride + (j / half) * 2 * half + i;
    T* second = first + half;
    const float a = get(*first), b = get(*second);
    const float c = cosine[row * half + i], s = sine[row * half + i] * sign;
    put(first, a * c - b * s);
    put(second, b * c + a * s);
  }
}

struct Value {
  float y, slope;
};

// The order of kernels::Activation.
__device__ Value activation_at(int kind, float x) {
  if (kind == 0) {
    const float s = 1.0f / (1.0f + expf(-x));
    return {x * s, s * (1.0f + x * (1.0f - s))};
  }
  if (kind == 1) {
    const float cdf = 0.5f * (1.0f + erff(x * 0.70710678118654752f));
    return {x * cdf, cdf + x * 0.3989422804014327f * expf(-0.5f * x * x)};
  }
  const float scale = 0.7978845608028654f, cube = 0.044715f;  // sqrt(2 / pi)
  const float t = tanhf(scale * (x + cube * x * x * x));
  return {0.5f * x * (1.0f + t),
          0.5f * (1.0f + t) + 0.5f * x * (1.0f - t * t) * scale * (1.0f + 3.0f * cube * x * x)};
}

template <typename T>
__global__ void activate_kernel(const T* in, long F, bool gated, int kind, T* y) {
  const long row = blockIdx.x;
  const T* gate = in + row * (gated ? 2 * F : F);
  for (long i = threadIdx.x; i < F; i += blockDim.x) {
    const float value = activation_at(kind, get(gate[i])).y;
    put(y + row * F + i, gated ? value * get(gate[F + i]) : value);
  }
}

template <typename T>
__global__ void activate_backward_kernel(T* in, T* dy, long F, bool gated, int kind) {
  const long row = blockIdx.x;
  T* gate = in + row * (gated ? 2 * F : F);
  for (long i = threadIdx.x; i < F; i += blockDim.x) {
    const float d = get(dy[row * F + i]), up = gated ? get(gate[F + i]) : 1.0f;
    const Value value = activation_at(kind, get(gate[i]));
    put(gate + i, d * up * value.slope);
    if (gated) put(gate + F + i, d * value.y);
    put(dy + row * F + i, value.y * up);
  }
}

// ---- logits: a block a row ----

/// Of some values v: the largest, sum exp(v - max) and sum exp(v - max) v.
struct Softmax {
  float max, sum, weighted;
};

__device__ Softmax join(Softmax a, Softmax b) {
  if (b.sum == 0.0f) return a;
  if (a.sum == 0.0f) return b;
  const float max = fmaxf(a.max, b.max);
  const float of_a = expf(a.max - max), of_b = expf(b.max - max);
  return {max, a.sum * of_a + b.sum * of_b, a.weighted * of_a + b.weighted * of_b};
}

template <typename T>
__global__ void logit_statistics_kernel(const T* logits, long V, const int64_t* targets,
                                        float scale, float* logprobs, float* lse, float* correct,
                                        float* entropy) {
  __shared__ Softmax shared[kThreads];
  const long row = blockIdx.x;
  const T* x = logits + row * V;
  Softmax mine{-INFINITY, 0.0f, 0.0f};
  for (long i = threadIdx.x; i < V; i += kThreads) {
    const float v = get(x[i]) * scale;
    if (v > mine.max) {
      const float shrink = mine.sum == 0.0f ? 0.0f : expf(mine.max - v);
      mine = {v, mine.sum * shrink, mine.weighted * shrink};
    }
    const float e = expf(v - mine.max);
    mine.sum += e;
    mine.weighted += e * v;
  }
  shared[threadIdx.x] = mine;
  __syncthreads();
  for (int step = kThreads / 2; step > 0; step /= 2) {
    if (threadIdx.x < step)
      shared[threadIdx.x] = join(shared[threadIdx.x], shared[threadIdx.x + step]);
    __syncthreads();
  }
  if (threadIdx.x != 0) return;
  const Softmax all = shared[0];
  const float target = get(x[targets[row]]) * scale;
  lse[row] = all.max + logf(all.sum);
  logprobs[row] = target - lse[row];
  correct[row] = target == all.max ? 1.0f : 0.0f;
  if (entropy) entropy[row] = lse[row] - all.weighted / all.sum;
}

// d logprob / d x = scale (1[target] - p); d entropy / d x = -scale p (log p + entropy).
template <typename T>
__global__ void logit_gradient_kernel(T* logits, long V, const int64_t* targets, float scale,
                                      const float* lse, const float* entropy,
                                      const float* d_logprobs, const float* d_entropy) {
  const long row = blockIdx.x;
  T* x = logits + row * V;
  const float d = d_logprobs ? d_logprobs[row] : 0.0f;
  const float of_entropy = d_entropy ? d_entropy[row] : 0.0f, H = d_entropy ? entropy[row] : 0.0f;
  const long target = targets[row];
  for (long i = threadIdx.x; i < V; i += blockDim.x) {
    const float logp = get(x[i]) * scale - lse[row];
    float gradient = -expf(logp) * (d + of_entropy * (logp + H));
    if (i == target) gradient += d;
    put(x + i, gradient * scale);
  }
}

/// Calls body with a null pointer of the type's.
template <typename Body>
void with_type(Type type, const Body& body) {
  if (type == Type::kFloat)
    body(static_cast<float*>(nullptr));
  else
    body(static_cast<Bf16*>(nullptr));
}

#define MEED_AS(pointer) static_cast<decltype(tag)>(pointer)
#define MEED_AS_CONST(pointer) static_cast<std::remove_pointer_t<decltype(tag)> const*>(pointer)

unsigned blocks(long n) { return static_cast<unsigned>(n); }

void norm(Type type, const float* x, long n, long D, const float* weight, const float* bias,
          float eps, bool center, void* xhat, float* rstd, void* y) {
  if (n == 0) return;
  with_type(type, [&](auto* tag) {
    norm_kernel<<<blocks(warp_blocks(n)), dim3(kWarp, kWarpsInBlock), 0, current_stream()>>>(
        x, n, D, weight, bias, eps, center, MEED_AS(xhat), rstd, MEED_AS(y));
  });
  check_launch();
}

void norm_output(Type type, const void* xhat, long n, long D, const float* weight,
                 const float* bias, void* y) {
  if (n == 0) return;
  with_type(type, [&](auto* tag) {
    norm_output_kernel<<<blocks(n), kThreads, 0, current_stream()>>>(MEED_AS_CONST(xhat), D, weight,
                                                                     bias, MEED_AS(y));
  });
  check_launch();
}

void norm_backward(Type type, const void* dy, const void* xhat, const float* rstd, long n, long D,
                   const float* weight, bool center, float* dx, float* d_weight, float* d_bias) {
  if (n == 0) return;
  with_type(type, [&](auto* tag) {
    norm_backward_kernel<<<blocks(warp_blocks(kNormWarps)), dim3(kWarp, kWarpsInBlock), 0,
                           current_stream()>>>(MEED_AS_CONST(dy), MEED_AS_CONST(xhat), rstd, n, D,
                                               weight, center, dx, d_weight, d_bias);
  });
  check_launch();
}

void rope(Type type, void* x, long n, long stride, long heads, long half, const float* cosine,
          const float* sine, float sign) {
  if (n == 0) return;
  with_type(type, [&](auto* tag) {
    rope_kernel<<<blocks(n), kThreads, 0, current_stream()>>>(MEED_AS(x), stride, heads, half,
                                                              cosine, sine, sign);
  });
  check_launch();
}

void activate(Type type, const void* in, long n, long F, bool gated, int kind, void* y) {
  if (n == 0) return;
  with_type(type, [&](auto* tag) {
    activate_kernel<<<blocks(n), kThreads, 0, current_stream()>>>(MEED_AS_CONST(in), F, gated, kind,
                                                                  MEED_AS(y));
  });
  check_launch();
}

void activate_backward(Type type, void* in, void* dy, long n, long F, bool gated, int kind) {
  if (n == 0) return;
  with_type(type, [&](auto* tag) {
    activate_backward_kernel<<<blocks(n), kThreads, 0, current_stream()>>>(MEED_AS(in), MEED_AS(dy),
                                                                           F, gated, kind);
  });
  check_launch();
}

void logit_statistics(Type type, const void* logits, long n, long V, const int64_t* targets,
                      float scale, float* logprobs, float* lse, float* correct, float* entropy) {
  if (n == 0) return;
  with_type(type, [&](auto* tag) {
    logit_statistics_kernel<<<blocks(n), kThreads, 0, current_stream()>>>(
        MEED_AS_CONST(logits), V, targets, scale, logprobs, lse, correct, entropy);
  });
  check_launch();
}

void logit_gradient(Type type, void* logits, long n, long V, const int64_t* targets, float scale,
                    const float* lse, const float* entropy, const float* d_logprobs,
                    const float* d_entropy) {
  if (n == 0) return;
  with_type(type, [&](auto* tag) {
    logit_gradient_kernel<<<blocks(n), kThreads, 0, current_stream()>>>(
        MEED_AS(logits), V, targets, scale, lse, entropy, d_logprobs, d_entropy);
  });
  check_launch();
}

constexpr RowKernels kKernels{norm,     norm_output,       norm_backward,    rope,
                              activate, activate_backward, logit_statistics, logit_gradient};

}  // namespace
}  // namespace meed::cuda

extern "C" const meed::cuda::RowKernels* meed_row_kernels() { return &meed::cuda::kKernels; }
