// Row kernels in GCC vector extensions; kernels.cpp includes this file once per instruction set,
// inside a namespace and a target pragma. No includes and no std templates here: what they
// instantiate would be compiled for the wrong processor.
// n: rows, D: columns. Bf16 is the upper half of a float.

typedef float F16 __attribute__((vector_size(64)));
typedef int I16 __attribute__((vector_size(64)));
typedef unsigned U16 __attribute__((vector_size(64)));
typedef unsigned short H16 __attribute__((vector_size(32)));

#define MEED_INLINE inline __attribute__((always_inline))
constexpr long kLanes = 16;

MEED_INLINE F16 splat(float x) { return F16{} + x; }
MEED_INLINE F16 widen(H16 h) { return (F16)(__builtin_convertvector(h, U16) << 16); }
MEED_INLINE H16 narrow(F16 x) {  // round to nearest even; NaN stays NaN
  const U16 bits = (U16)x;
  const U16 rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  const U16 nan = (bits >> 16) | 0x40u;
  const I16 is_nan = x != x;
  return __builtin_convertvector((((U16)is_nan) & nan) | (~((U16)is_nan) & rounded), H16);
}
MEED_INLINE F16 load(const float* p, long m) {
  F16 x{};
  if (m >= kLanes)
    __builtin_memcpy(&x, p, 64);
  else
    __builtin_memcpy(&x, p, static_cast<unsigned long>(m) * 4);
  return x;
}
MEED_INLINE F16 load(const Bf16* p, long m) {
  H16 x{};
  if (m >= kLanes)
    __builtin_memcpy(&x, p, 32);
  else
    __builtin_memcpy(&x, p, static_cast<unsigned long>(m) * 2);
  return widen(x);
}
MEED_INLINE void store(float* p, F16 x, long m) {
  if (m >= kLanes)
    __builtin_memcpy(p, &x, 64);
  else
    __builtin_memcpy(p, &x, static_cast<unsigned long>(m) * 4);
}
MEED_INLINE void store(Bf16* p, F16 x, long m) {
  const H16 h = narrow(x);
  if (m >= kLanes)
    __builtin_memcpy(p, &h, 32);
  else
    __builtin_memcpy(p, &h, static_cast<unsigned long>(m) * 2);
}
MEED_INLINE float sum(F16 x) {
  float total = 0;
  for (int i = 0; i < 16; ++i) total += x[i];
  return total;
}
MEED_INLINE F16 select(I16 mask, F16 a, F16 b) {
  return (F16)(((U16)mask & (U16)a) | (~(U16)mask & (U16)b));
}
MEED_INLINE F16 vmax(F16 a, F16 b) { return select(a > b, a, b); }
MEED_INLINE F16 vmin(F16 a, F16 b) { return select(a < b, a, b); }
/// exp to 2 ulp (Cody-Waite reduction, degree 6); below -87 it is 0.
MEED_INLINE F16 vexp(F16 x) {
  const I16 tiny = x < splat(-87.0f);
  x = vmin(vmax(x, splat(-87.0f)), splat(88.0f));
  const F16 magic = splat(12582912.0f);  // 1.5 * 2^23: the sum's low bits are round(x / ln 2)
  const F16 shifted = x * 1.44269504088896341f + magic;
  const F16 n = shifted - magic;
  const F16 r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  F16 p = splat(1.9875691500e-4f);
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  const I16 exponent = (I16)((U16)shifted << 23);
  return select(tiny, F16{}, (F16)((I16)p + exponent));
}
MEED_INLINE F16 sigmoid(F16 x) { return 1.0f / (1.0f + vexp(-x)); }
MEED_INLINE F16 vtanh(F16 x) { return 1.0f - 2.0f / (vexp(2.0f * x) + 1.0f); }
MEED_INLINE long tail(long n, long i) { return n - i < kLanes ? n - i : kLanes; }
MEED_INLINE F16 keep(F16 x, const long m) {  // zero in lanes m..15
  if (m >= kLanes) return x;
  for (long i = m; i < kLanes; ++i) x[i] = 0;
  return x;
}

// ---- normalisation ----

template <typename T>
MEED_INLINE void norm_row(const float* x, const NormArgs& a, T* xhat, float* rstd, T* y) {
  F16 total{}, squares{};
  float mean = 0;
  if (a.center) {
    for (long i = 0; i < a.D; i += kLanes) total += load(x + i, tail(a.D, i));
    mean = sum(total) / static_cast<float>(a.D);
  }
  for (long i = 0; i < a.D; i += kLanes) {
    const long m = tail(a.D, i);
    const F16 v = keep(load(x + i, m) - mean, m);
    squares += v * v;
  }
  const float scale = 1.0f / __builtin_sqrtf(sum(squares) / static_cast<float>(a.D) + a.eps);
  *rstd = scale;
  for (long i = 0; i < a.D; i += kLanes) {
    const long m = tail(a.D, i);
    const F16 h = (load(x + i, m) - mean) * scale;
    if (xhat) store(xhat + i, h, m);
    F16 out = h * load(a.weight + i, m);
    if (a.bias) out += load(a.bias + i, m);
    store(y + i, out, m);
  }
}
template <typename T>
MEED_INLINE void norm_impl(const float* x, long n, const NormArgs& a, T* xhat, float* rstd, T* y) {
  for (long r = 0; r < n; ++r)
    norm_row(x + r * a.D, a, xhat ? xhat + r * a.D : nullptr, rstd + r, y + r * a.D);
}
template <typename T>
MEED_INLINE void norm_output_impl(const T* xhat, long n, const NormArgs& a, T* y) {
  for (long r = 0; r < n; ++r)
    for (long i = 0; i < a.D; i += kLanes) {
      const long m = tail(a.D, i);
      F16 out = load(xhat + r * a.D + i, m) * load(a.weight + i, m);
      if (a.bias) out += load(a.bias + i, m);
      store(y + r * a.D + i, out, m);
    }
}
// dx += rstd (g - [mean g] - xhat mean(g xhat)), g = dy w.
template <typename T>
MEED_INLINE void norm_backward_impl(const T* dy, const T* xhat, const float* rstd, long n,
                                    const NormArgs& a, float* dx, float* dweight, float* dbias) {
  for (long r = 0; r < n; ++r) {
    const T* dy_row = dy + r * a.D;
    const T* h_row = xhat + r * a.D;
    F16 g_sum{}, gh_sum{};
    for (long i = 0; i < a.D; i += kLanes) {
      const long m = tail(a.D, i);
      const F16 d = load(dy_row + i, m), h = load(h_row + i, m);
      const F16 g = d * load(a.weight + i, m);
      g_sum += g;
      gh_sum += g * h;
      if (dweight) store(dweight + i, load(dweight + i, m) + d * h, m);
      if (dbias) store(dbias + i, load(dbias + i, m) + d, m);
    }
    const float mean_g = a.center ? sum(g_sum) / static_cast<float>(a.D) : 0.0f;
    const float mean_gh = sum(gh_sum) / static_cast<float>(a.D);
    for (long i = 0; i < a.D; i += kLanes) {
      const long m = tail(a.D, i);
      const F16 g = load(dy_row + i, m) * load(a.weight + i, m);
      const F16 d = rstd[r] * (g - mean_g - load(h_row + i, m) * mean_gh);
      store(dx + r * a.D + i, load(dx + r * a.D + i, m) + d, m);
    }
  }
}
void norm(const float* x, long n, const NormArgs& a, float* xhat, float* rstd, float* y) {
  norm_impl(x, n, a, xhat, rstd, y);
}
void norm(const float* x, long n, const NormArgs& a, Bf16* xhat, float* rstd, Bf16* y) {
  norm_impl(x, n, a, xhat, rstd, y);
}
void norm_output(const float* xhat, long n, const NormArgs& a, float* y) {
  norm_output_impl(xhat, n, a, y);
}
void norm_output(const Bf16* xhat, long n, const NormArgs& a, Bf16* y) {
  norm_output_impl(xhat, n, a, y);
}
void norm_backward(const float* dy, const float* xhat, const float* rstd, long n, const NormArgs& a,
                   float* dx, float* dw, float* db) {
  norm_backward_impl(dy, xhat, rstd, n, a, dx, dw, db);
}
void norm_backward(const Bf16* dy, const Bf16* xhat, const float* rstd, long n, const NormArgs& a,
                   float* dx, float* dw, float* db) {
  norm_backward_impl(dy, xhat, rstd, n, a, dx, dw, db);
}

// ---- element-wise over n contiguous values ----

template <typename A, typename B>
MEED_INLINE void convert_impl(const A* x, long n, float scale, B* y) {
  for (long i = 0; i < n; i += kLanes) store(y + i, load(x + i, tail(n, i)) * scale, tail(n, i));
}
template <typename A>
MEED_INLINE void accumulate_impl(const A* x, long n, float* y) {
  for (long i = 0; i < n; i += kLanes)
    store(y + i, load(y + i, tail(n, i)) + load(x + i, tail(n, i)), tail(n, i));
}
void convert(const float* x, long n, float scale, float* y) { convert_impl(x, n, scale, y); }
void convert(const Bf16* x, long n, float scale, float* y) { convert_impl(x, n, scale, y); }
void convert(const float* x, long n, float scale, Bf16* y) { convert_impl(x, n, scale, y); }
void accumulate(const float* x, long n, float* y) { accumulate_impl(x, n, y); }
void accumulate(const Bf16* x, long n, float* y) { accumulate_impl(x, n, y); }

template <typename T>
MEED_INLINE void add_bias_impl(T* x, long n, long D, const float* bias) {
  for (long r = 0; r < n; ++r)
    for (long i = 0; i < D; i += kLanes) {
      const long m = tail(D, i);
      store(x + r * D + i, load(x + r * D + i, m) + load(bias + i, m), m);
    }
}
void add_bias(float* x, long n, long D, const float* bias) { add_bias_impl(x, n, D, bias); }
void add_bias(Bf16* x, long n, long D, const float* bias) { add_bias_impl(x, n, D, bias); }

// ---- rotary embedding: halves (a, b) of a head -> (a cos - b sin, b cos + a sin) ----

template <typename T>
MEED_INLINE void rope_impl(T* x, long n, long stride, long heads, long half, const float* cosine,
                           const float* sine, float sign) {
  for (long r = 0; r < n; ++r)
    for (long h = 0; h < heads; ++h) {
      T* head = x + r * stride + h * 2 * half;
      for (long i = 0; i < half; i += kLanes) {
        const long m = tail(half, i);
        const F16 a = load(head + i, m), b = load(head + half + i, m);
        const F16 c = load(cosine + r * half + i, m), s = load(sine + r * half + i, m) * sign;
        store(head + i, a * c - b * s, m);
        store(head + half + i, b * c + a * s, m);
      }
    }
}
void rope(float* x, long n, long stride, long heads, long half, const float* c, const float* s,
          float sign) {
  rope_impl(x, n, stride, heads, half, c, s, sign);
}
void rope(Bf16* x, long n, long stride, long heads, long half, const float* c, const float* s,
          float sign) {
  rope_impl(x, n, stride, heads, half, c, s, sign);
}

// ---- activations ----

struct Value {
  F16 y, slope;
};
MEED_INLINE Value activation_at(Activation kind, F16 x) {
  if (kind == Activation::kSilu) {
    const F16 s = sigmoid(x);
    return {x * s, s * (1.0f + x * (1.0f - s))};
  }
  if (kind == Activation::kGeluTanh) {
    constexpr float kScale = 0.7978845608028654f, kCube = 0.044715f;  // sqrt(2 / pi)
    const F16 t = vtanh(kScale * (x + kCube * x * x * x));
    return {0.5f * x * (1.0f + t),
            0.5f * (1.0f + t) + 0.5f * x * (1.0f - t * t) * kScale * (1.0f + 3.0f * kCube * x * x)};
  }
  Value value;
  for (int i = 0; i < 16; ++i) {
    const float cdf = 0.5f * (1.0f + __builtin_erff(x[i] * 0.70710678118654752f));
    value.y[i] = x[i] * cdf;
    value.slope[i] = cdf + x[i] * 0.3989422804014327f * __builtin_expf(-0.5f * x[i] * x[i]);
  }
  return value;
}
template <typename T>
MEED_INLINE void activate_impl(const T* in, long n, long F, bool gated, Activation kind, T* y) {
  for (long r = 0; r < n; ++r) {
    const T* gate = in + r * (gated ? 2 * F : F);
    for (long i = 0; i < F; i += kLanes) {
      const long m = tail(F, i);
      F16 out = activation_at(kind, load(gate + i, m)).y;
      if (gated) out *= load(gate + F + i, m);
      store(y + r * F + i, out, m);
    }
  }
}
template <typename T>
MEED_INLINE void activate_backward_impl(T* in, T* dy, long n, long F, bool gated, Activation kind) {
  for (long r = 0; r < n; ++r) {
    T* gate = in + r * (gated ? 2 * F : F);
    for (long i = 0; i < F; i += kLanes) {
      const long m = tail(F, i);
      const Value v = activation_at(kind, load(gate + i, m));
      const F16 d = load(dy + r * F + i, m);
      if (!gated) {
        store(gate + i, d * v.slope, m);
        store(dy + r * F + i, v.y, m);
        continue;
      }
      const F16 up = load(gate + F + i, m);
      store(gate + i, d * up * v.slope, m);
      store(gate + F + i, d * v.y, m);
      store(dy + r * F + i, v.y * up, m);
    }
  }
}
void activate(const float* in, long n, long F, bool gated, Activation kind, float* y) {
  activate_impl(in, n, F, gated, kind, y);
}
void activate(const Bf16* in, long n, long F, bool gated, Activation kind, Bf16* y) {
  activate_impl(in, n, F, gated, kind, y);
}
void activate_backward(float* in, float* dy, long n, long F, bool gated, Activation kind) {
  activate_backward_impl(in, dy, n, F, gated, kind);
}
void activate_backward(Bf16* in, Bf16* dy, long n, long F, bool gated, Activation kind) {
  activate_backward_impl(in, dy, n, F, gated, kind);
}

// ---- softmax pieces ----

MEED_INLINE float row_max(const float* x, long n) {
  F16 best = splat(-__builtin_inff());
  long i = 0;
  for (; i + kLanes <= n; i += kLanes) best = vmax(best, load(x + i, kLanes));
  float top = -__builtin_inff();
  for (int j = 0; j < 16; ++j) top = best[j] > top ? best[j] : top;
  for (; i < n; ++i) top = x[i] > top ? x[i] : top;
  return top;
}
SoftmaxRow softmax_row(float* x, long first, long last, long n) {
  for (long i = 0; i < first; ++i) x[i] = 0;
  for (long i = last; i < n; ++i) x[i] = 0;
  const float top = row_max(x + first, last - first);
  F16 total{};
  for (long i = first; i < last; i += kLanes) {
    const long m = tail(last, i);
    const F16 e = keep(vexp(load(x + i, m) - top), m);
    total += e;
    store(x + i, e, m);
  }
  const float denominator = sum(total);
  return {top + __builtin_logf(denominator), denominator};
}
void probabilities_row(float* x, long first, long last, long n, float lse) {
  for (long i = 0; i < first; ++i) x[i] = 0;
  for (long i = last; i < n; ++i) x[i] = 0;
  for (long i = first; i < last; i += kLanes) {
    const long m = tail(last, i);
    store(x + i, vexp(load(x + i, m) - lse), m);
  }
}
void score_gradient_row(const float* p, float* dp, long n, float delta) {
  for (long i = 0; i < n; i += kLanes) {
    const long m = tail(n, i);
    store(dp + i, load(p + i, m) * (load(dp + i, m) - delta), m);
  }
}
template <typename A, typename B>
MEED_INLINE float dot_impl(const A* a, const B* b, long n) {
  F16 total{};
  for (long i = 0; i < n; i += kLanes) total += load(a + i, tail(n, i)) * load(b + i, tail(n, i));
  return sum(total);
}
float dot(const float* a, const float* b, long n) { return dot_impl(a, b, n); }
float dot(const Bf16* a, const Bf16* b, long n) { return dot_impl(a, b, n); }

template <typename T>
MEED_INLINE RowStatistics statistics_impl(const T* x, long n, float scale, bool entropy) {
  F16 best = splat(-__builtin_inff());
  long i = 0;
  for (; i + kLanes <= n; i += kLanes) best = vmax(best, load(x + i, kLanes));
  float top = -__builtin_inff();
  for (int j = 0; j < 16; ++j) top = best[j] > top ? best[j] : top;
  for (; i < n; ++i) {
    const float v = load(x + i, 1)[0];
    top = v > top ? v : top;
  }
  F16 total{}, weighted{};
  for (i = 0; i < n; i += kLanes) {
    const long m = tail(n, i);
    const F16 shifted = (load(x + i, m) - top) * scale;
    const F16 e = keep(vexp(shifted), m);
    total += e;
    if (entropy) weighted += e * shifted;
  }
  const float denominator = sum(total);
  const float log_denominator = __builtin_logf(denominator);
  return {top * scale + log_denominator,
          entropy ? log_denominator - sum(weighted) / denominator : 0.0f, top};
}
RowStatistics row_statistics(const float* x, long n, float scale, bool entropy) {
  return statistics_impl(x, n, scale, entropy);
}
RowStatistics row_statistics(const Bf16* x, long n, float scale, bool entropy) {
  return statistics_impl(x, n, scale, entropy);
}

// d/dlogit of logprob: scale (1[target] - p); of entropy: -scale p (log p + entropy).
template <typename T>
MEED_INLINE void logit_gradient_impl(T* x, long n, float scale, float lse, float entropy,
                                     float d_logprob, float d_entropy) {
  for (long i = 0; i < n; i += kLanes) {
    const long m = tail(n, i);
    const F16 log_p = load(x + i, m) * scale - lse;
    const F16 p = vexp(log_p);
    F16 d = -d_logprob * p;
    if (d_entropy != 0) d -= d_entropy * p * (log_p + entropy);
    store(x + i, d * scale, m);
  }
}
void logit_gradient(float* x, long n, float scale, float lse, float entropy, float d_logprob,
                    float d_entropy) {
  logit_gradient_impl(x, n, scale, lse, entropy, d_logprob, d_entropy);
}
void logit_gradient(Bf16* x, long n, float scale, float lse, float entropy, float d_logprob,
                    float d_entropy) {
  logit_gradient_impl(x, n, scale, lse, entropy, d_logprob, d_entropy);
}
#undef MEED_INLINE
