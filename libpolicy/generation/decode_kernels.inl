// Kernels in GCC vector extensions; decode_kernels.cpp includes this file once per instruction set, inside a
// namespace and a target pragma. MEED_ROWS: rows of a register tile; MEED_DOT: whether the processor has
// bfloat16 dot products. No std templates here: they would be compiled for the wrong processor.

typedef float F16 __attribute__((vector_size(64)));
typedef int I16 __attribute__((vector_size(64)));
typedef unsigned U16 __attribute__((vector_size(64)));
typedef unsigned short H16 __attribute__((vector_size(32)));

#define MEED_INLINE inline __attribute__((always_inline))
constexpr long kLanes = 16;

MEED_INLINE F16 splat(float x) { return F16{} + x; }
MEED_INLINE F16 load(const float* p) {
  F16 x;
  __builtin_memcpy(&x, p, 64);
  return x;
}
MEED_INLINE F16 load(const Bf16* p) {
  H16 x;
  __builtin_memcpy(&x, p, 32);
  return (F16)(__builtin_convertvector(x, U16) << 16);
}
MEED_INLINE void store(float* p, F16 x) { __builtin_memcpy(p, &x, 64); }
MEED_INLINE U16 round_bits(F16 x) {  // to bfloat16, nearest even; NaN stays NaN
  const U16 bits = (U16)x;
  const U16 rounded = bits + 0x7fffu + ((bits >> 16) & 1u);
  const U16 nan = (U16)(x != x);
  return (nan & (bits | 0x400000u)) | (~nan & rounded);
}
MEED_INLINE void store(Bf16* p, F16 x) {
  const H16 h = __builtin_convertvector(round_bits(x) >> 16, H16);
  __builtin_memcpy(p, &h, 32);
}
MEED_INLINE F16 through_bf16(F16 x) { return (F16)(round_bits(x) & 0xffff0000u); }
MEED_INLINE F16 select(I16 mask, F16 a, F16 b) { return (F16)(((U16)mask & (U16)a) | (~(U16)mask & (U16)b)); }
MEED_INLINE F16 vmax(F16 a, F16 b) { return select(a > b, a, b); }
MEED_INLINE float sum(F16 x) {
  float total = 0;
  for (int i = 0; i < 16; ++i) total += x[i];
  return total;
}
MEED_INLINE float top_of(F16 x) {
  float top = x[0];
  for (int i = 1; i < 16; ++i) top = x[i] > top ? x[i] : top;
  return top;
}
/// exp to 2 ulp for x <= 0 (Cody-Waite reduction, degree 6); below -87 it is 0.
MEED_INLINE F16 vexp(F16 x) {
  const I16 tiny = x < splat(-87.0f);
  x = vmax(x, splat(-87.0f));
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
  return select(tiny, F16{}, (F16)((I16)p + (I16)((U16)shifted << 23)));
}

// ---- products: R rows by C vectors of columns stay in registers over the whole of K ----

template <int R, int C>
MEED_INLINE void tile_product(const float* x, long ldx, const float* panel, long K, F16 (&sums)[R][C]) {
  for (long k = 0; k < K; ++k, panel += C * kLanes) {
    __builtin_prefetch(panel + 16 * C * kLanes);
    __builtin_prefetch(panel + 16 * C * kLanes + 16);
    __builtin_prefetch(panel + 16 * C * kLanes + 32);
    F16 w[C];
    for (int c = 0; c < C; ++c) w[c] = load(panel + c * kLanes);
    for (int r = 0; r < R; ++r) {
      const F16 v = splat(x[r * ldx + k]);
      for (int c = 0; c < C; ++c) sums[r][c] += v * w[c];
    }
  }
}
template <int R, int C>
MEED_INLINE void tile_product(const Bf16* x, long ldx, const Bf16* panel, long K, F16 (&sums)[R][C]) {
  for (long k = 0; k < K; k += 2, panel += C * 2 * kLanes) {
    __builtin_prefetch(panel + 16 * C * 2 * kLanes);
    __builtin_prefetch(panel + 16 * C * 2 * kLanes + 32);
    __builtin_prefetch(panel + 16 * C * 2 * kLanes + 64);
    U16 w[C];
    for (int c = 0; c < C; ++c) __builtin_memcpy(&w[c], panel + c * 2 * kLanes, 64);
    for (int r = 0; r < R; ++r) {
      unsigned pair;
      __builtin_memcpy(&pair, x + r * ldx + k, 4);
#if MEED_DOT
      const __m512bh v = (__m512bh)_mm512_set1_epi32(static_cast<int>(pair));
      for (int c = 0; c < C; ++c)
        sums[r][c] = (F16)_mm512_dpbf16_ps((__m512)sums[r][c], (__m512bh)w[c], v);
#else
      const F16 even = (F16)(U16{} + (pair << 16)), odd = (F16)(U16{} + (pair & 0xffff0000u));
      for (int c = 0; c < C; ++c) {
        sums[r][c] += even * (F16)(w[c] << 16);
        sums[r][c] += odd * (F16)(w[c] & 0xffff0000u);
      }
#endif
    }
  }
}
template <int R, int C, typename T>
MEED_INLINE void store_product(const T* x, long ldx, const T* panel, long K, float scale, float* out, long ldo) {
  F16 sums[R][C];
  for (int r = 0; r < R; ++r)
    for (int c = 0; c < C; ++c) sums[r][c] = F16{};
  tile_product<R, C>(x, ldx, panel, K, sums);
  for (int r = 0; r < R; ++r)
    for (int c = 0; c < C; ++c) store(out + r * ldo + c * kLanes, sums[r][c] * scale);
}
template <int C, typename T>
MEED_INLINE void all_rows(const T* x, long ldx, long rows, const T* panel, long K, float scale, float* out, long ldo) {
  for (; rows >= MEED_ROWS; rows -= MEED_ROWS, x += MEED_ROWS * ldx, out += MEED_ROWS * ldo)
    store_product<MEED_ROWS, C>(x, ldx, panel, K, scale, out, ldo);
#if MEED_ROWS > 4
  switch (rows) {
    case 7: return store_product<7, C>(x, ldx, panel, K, scale, out, ldo);
    case 6: return store_product<6, C>(x, ldx, panel, K, scale, out, ldo);
    case 5: return store_product<5, C>(x, ldx, panel, K, scale, out, ldo);
    case 4: return store_product<4, C>(x, ldx, panel, K, scale, out, ldo);
    case 3: return store_product<3, C>(x, ldx, panel, K, scale, out, ldo);
    case 2: return store_product<2, C>(x, ldx, panel, K, scale, out, ldo);
    default: break;
  }
#endif
  if (rows == 1) store_product<1, C>(x, ldx, panel, K, scale, out, ldo);
}

void product(const float* x, long ldx, long rows, const float* panel, long K, float* tile) {
  all_rows<kPanel / kLanes>(x, ldx, rows, panel, K, 1.0f, tile, kPanel);
}
void product(const Bf16* x, long ldx, long rows, const Bf16* panel, long K, float* tile) {
  all_rows<kPanel / kLanes>(x, ldx, rows, panel, K, 1.0f, tile, kPanel);
}
void page_scores(const float* q, long ldq, long rows, const float* keys, long d, float scale, float* scores, long lds) {
  all_rows<kPageTokens / kLanes>(q, ldq, rows, keys, d, scale, scores, lds);
}
void page_scores(const Bf16* q, long ldq, long rows, const Bf16* keys, long d, float scale, float* scores, long lds) {
  all_rows<kPageTokens / kLanes>(q, ldq, rows, keys, d, scale, scores, lds);
}

MEED_INLINE float to_float(float x) { return x; }
MEED_INLINE float to_float(Bf16 x) {
  const unsigned bits = static_cast<unsigned>(x) << 16;
  float value;
  __builtin_memcpy(&value, &bits, 4);
  return value;
}
MEED_INLINE void put(float* p, float x) { *p = x; }
MEED_INLINE void put(Bf16* p, float x) { *p = static_cast<Bf16>(round_bits(splat(x))[0] >> 16); }

template <typename T>
MEED_INLINE void finish_impl(const float* tile, long rows, long columns, const Epilogue& e, bool round, T* y, long ldy) {
  for (long r = 0; r < rows; ++r, tile += kPanel, y += ldy) {
    long c = 0;
    for (; c + kLanes <= columns; c += kLanes) {
      F16 v = load(tile + c) * e.scale;
      if (e.bias) v += load(e.bias + c);
      if (round) v = through_bf16(v);
      if (e.add) v += load(y + c);
      store(y + c, v);
    }
    for (; c < columns; ++c) {
      float v = tile[c] * e.scale;
      if (e.bias) v += e.bias[c];
      if (round) v = through_bf16(splat(v))[0];
      if (e.add) v += to_float(y[c]);
      put(y + c, v);
    }
  }
}
void finish(const float* tile, long rows, long columns, const Epilogue& e, bool round, float* y, long ldy) {
  finish_impl(tile, rows, columns, e, round, y, ldy);
}
void finish(const float* tile, long rows, long columns, const Epilogue& e, bool round, Bf16* y, long ldy) {
  finish_impl(tile, rows, columns, e, round, y, ldy);
}

// ---- attention: probabilities times values ----

template <int R, int C, typename T>
MEED_INLINE void values_tile(const float* p, long ldp, const T* values, long tokens, long d, float* out) {
  F16 sums[R][C];
  for (int r = 0; r < R; ++r)
    for (int c = 0; c < C; ++c) sums[r][c] = load(out + r * d + c * kLanes);
  for (long t = 0; t < tokens; ++t, values += d) {
    F16 v[C];
    for (int c = 0; c < C; ++c) v[c] = load(values + c * kLanes);
    for (int r = 0; r < R; ++r)
      for (int c = 0; c < C; ++c) sums[r][c] += splat(p[r * ldp + t]) * v[c];
  }
  for (int r = 0; r < R; ++r)
    for (int c = 0; c < C; ++c) store(out + r * d + c * kLanes, sums[r][c]);
}
template <int R, typename T>
MEED_INLINE void values_rows(const float* p, long ldp, const T* values, long tokens, long d, float* out) {
  long c = 0;
  for (; c + 4 * kLanes <= d; c += 4 * kLanes) values_tile<R, 4>(p, ldp, values + c, tokens, d, out + c);
  for (; c + kLanes <= d; c += kLanes) values_tile<R, 1>(p, ldp, values + c, tokens, d, out + c);
  for (; c < d; ++c)
    for (int r = 0; r < R; ++r) {
      float total = out[r * d + c];
      for (long t = 0; t < tokens; ++t) total += p[r * ldp + t] * to_float(values[t * d + c]);
      out[r * d + c] = total;
    }
}
template <typename T>
MEED_INLINE void page_values_impl(const float* p, long ldp, long rows, const T* values, long tokens, long d, float* out) {
#if MEED_ROWS > 4
  for (; rows >= 4; rows -= 4, p += 4 * ldp, out += 4 * d) values_rows<4>(p, ldp, values, tokens, d, out);
  if (rows == 3) return values_rows<3>(p, ldp, values, tokens, d, out);
  if (rows == 2) return values_rows<2>(p, ldp, values, tokens, d, out);
#endif
  for (; rows > 0; --rows, p += ldp, out += d) values_rows<1>(p, ldp, values, tokens, d, out);
}
void page_values(const float* p, long ldp, long rows, const float* values, long tokens, long d, float* out) {
  page_values_impl(p, ldp, rows, values, tokens, d, out);
}
void page_values(const float* p, long ldp, long rows, const Bf16* values, long tokens, long d, float* out) {
  page_values_impl(p, ldp, rows, values, tokens, d, out);
}

// ---- softmax and sampling ----

MEED_INLINE F16 load_tail(const float* p, long n, float rest) {
  F16 x = splat(rest);
  for (long i = 0; i < n; ++i) x[i] = p[i];
  return x;
}

float softmax(float* x, long n) {
  const float lowest = -__builtin_inff();
  F16 best = splat(lowest);
  long i = 0;
  for (; i + kLanes <= n; i += kLanes) best = vmax(best, load(x + i));
  const F16 rest = load_tail(x + i, n - i, lowest);
  const float top = top_of(vmax(best, rest));
  F16 total{};
  for (i = 0; i + kLanes <= n; i += kLanes) {
    const F16 e = vexp(load(x + i) - top);
    store(x + i, e);
    total += e;
  }
  const F16 e = vexp(rest - top);
  for (long j = i; j < n; ++j) x[j] = e[j - i];
  return sum(total + e);
}

RowMaximum row_maximum(const float* x, long n) {
  const float infinity = __builtin_inff();
  F16 best = splat(-infinity);
  I16 bad{};
  long i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    const F16 v = load(x + i);
    bad |= v != v;
    best = vmax(best, v);
  }
  const F16 rest = load_tail(x + i, n - i, -infinity);
  bad |= rest != rest;
  const float top = top_of(vmax(best, rest));
  int any = 0;
  for (int j = 0; j < 16; ++j) any |= bad[j];
  return {top, any != 0 || top == infinity || top == -infinity};
}

float exp_sum(const float* x, long n, float shift, float scale) {
  F16 total{};
  long i = 0;
  for (; i + kLanes <= n; i += kLanes) total += vexp((load(x + i) - shift) * scale);
  return sum(total + vexp((load_tail(x + i, n - i, -__builtin_inff()) - shift) * scale));
}

void exp_row(const float* x, long n, float shift, float scale, float* y) {
  long i = 0;
  for (; i + kLanes <= n; i += kLanes) store(y + i, vexp((load(x + i) - shift) * scale));
  const F16 e = vexp((load_tail(x + i, n - i, -__builtin_inff()) - shift) * scale);
  for (long j = i; j < n; ++j) y[j] = e[j - i];
}

#undef MEED_INLINE
