// Kernels in GCC vector extensions; decode_kernels.cpp includes this file once per instruction set, inside a
// namespace and a target pragma. MEED_LANES: floats of a register; MEED_ROWS, MEED_SUMS: rows and registers of
// sums of a tile, which must stay in registers; MEED_DOT: whether the processor has bfloat16 dot products.
// No std templates here: they would be compiled for the wrong processor.

typedef float F __attribute__((vector_size(4 * MEED_LANES)));
typedef int I __attribute__((vector_size(4 * MEED_LANES)));
typedef unsigned U __attribute__((vector_size(4 * MEED_LANES)));
typedef unsigned short H __attribute__((vector_size(2 * MEED_LANES)));

#define MEED_INLINE inline __attribute__((always_inline))
constexpr long kLanes = MEED_LANES;

MEED_INLINE F splat(float x) { return F{} + x; }
MEED_INLINE F load(const float* p) {
  F x;
  __builtin_memcpy(&x, p, sizeof x);
  return x;
}
MEED_INLINE F load(const Bf16* p) {
  H x;
  __builtin_memcpy(&x, p, sizeof x);
  return (F)(__builtin_convertvector(x, U) << 16);
}
MEED_INLINE void store(float* p, F x) { __builtin_memcpy(p, &x, sizeof x); }
MEED_INLINE U round_bits(F x) {  // to bfloat16, nearest even; NaN stays NaN
  const U bits = (U)x;
  const U rounded = bits + 0x7fffu + ((bits >> 16) & 1u);
  const U nan = (U)(x != x);
  return (nan & (bits | 0x400000u)) | (~nan & rounded);
}
MEED_INLINE void store(Bf16* p, F x) {
  const H h = __builtin_convertvector(round_bits(x) >> 16, H);
  __builtin_memcpy(p, &h, sizeof h);
}
MEED_INLINE F through_bf16(F x) { return (F)(round_bits(x) & 0xffff0000u); }
MEED_INLINE F select(I mask, F a, F b) { return (F)(((U)mask & (U)a) | (~(U)mask & (U)b)); }
MEED_INLINE F vmax(F a, F b) { return select(a > b, a, b); }
MEED_INLINE float sum(F x) {
  float total = 0;
  for (long i = 0; i < kLanes; ++i) total += x[i];
  return total;
}
MEED_INLINE float top_of(F x) {
  float top = x[0];
  for (long i = 1; i < kLanes; ++i) top = x[i] > top ? x[i] : top;
  return top;
}
/// exp to 2 ulp for x <= 0 (Cody-Waite reduction, degree 6); below -87 it is 0.
MEED_INLINE F vexp(F x) {
  const I tiny = x < splat(-87.0f);
  x = vmax(x, splat(-87.0f));
  const F magic = splat(12582912.0f);  // 1.5 * 2^23: the sum's low bits are round(x / ln 2)
  const F shifted = x * 1.44269504088896341f + magic;
  const F n = shifted - magic;
  const F r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  F p = splat(1.9875691500e-4f);
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  return select(tiny, F{}, (F)((I)p + (I)((U)shifted << 23)));
}

// ---- products: R rows by C vectors of columns stay in registers over the whole of K ----

// Panels are W columns wide, of which a tile takes C vectors.
template <int R, int C, long W>
MEED_INLINE void tile_product(const float* x, long ldx, const float* panel, long K, F (&sums)[R][C]) {
  for (long k = 0; k < K; ++k, panel += W) {
    for (long line = 0; line < C * kLanes; line += 16) __builtin_prefetch(panel + 16 * W + line);
    F w[C];
    for (int c = 0; c < C; ++c) w[c] = load(panel + c * kLanes);
    for (int r = 0; r < R; ++r) {
      const F v = splat(x[r * ldx + k]);
      for (int c = 0; c < C; ++c) sums[r][c] += v * w[c];
    }
  }
}
template <int R, int C, long W>
MEED_INLINE void tile_product(const Bf16* x, long ldx, const Bf16* panel, long K, F (&sums)[R][C]) {
  for (long k = 0; k < K; k += 2, panel += 2 * W) {
    for (long line = 0; line < C * 2 * kLanes; line += 32) __builtin_prefetch(panel + 16 * 2 * W + line);
    U w[C];
    for (int c = 0; c < C; ++c) __builtin_memcpy(&w[c], panel + c * 2 * kLanes, sizeof(U));
    for (int r = 0; r < R; ++r) {
      unsigned pair;
      __builtin_memcpy(&pair, x + r * ldx + k, 4);
#if MEED_DOT
      const __m512bh v = (__m512bh)_mm512_set1_epi32(static_cast<int>(pair));
      for (int c = 0; c < C; ++c)
        sums[r][c] = (F)_mm512_dpbf16_ps((__m512)sums[r][c], (__m512bh)w[c], v);
#else
      const F even = (F)(U{} + (pair << 16)), odd = (F)(U{} + (pair & 0xffff0000u));
      for (int c = 0; c < C; ++c) {
        sums[r][c] += even * (F)(w[c] << 16);
        sums[r][c] += odd * (F)(w[c] & 0xffff0000u);
      }
#endif
    }
  }
}
/// Vectors that R rows take at a time: as many as divide the panel and leave room for the sums.
constexpr int tile_vectors(int rows, int vectors) {
  int count = vectors;
  while (vectors % count != 0 || (count > 1 && rows * count > MEED_SUMS)) --count;
  return count;
}

template <int R, long W, typename T>
MEED_INLINE void store_product(const T* x, long ldx, const T* panel, long K, float scale, float* out, long ldo) {
  constexpr int C = tile_vectors(R, W / kLanes);
  for (long first = 0; first < W; first += C * kLanes) {
    F sums[R][C];
    for (int r = 0; r < R; ++r)
      for (int c = 0; c < C; ++c) sums[r][c] = F{};
    tile_product<R, C, W>(x, ldx, panel + panel_index(panel, 0, first, W), K, sums);
    for (int r = 0; r < R; ++r)
      for (int c = 0; c < C; ++c) store(out + r * ldo + first + c * kLanes, sums[r][c] * scale);
  }
}
template <long W, typename T>
MEED_INLINE void all_rows(const T* x, long ldx, long rows, const T* panel, long K, float scale, float* out, long ldo) {
  for (; rows >= MEED_ROWS; rows -= MEED_ROWS, x += MEED_ROWS * ldx, out += MEED_ROWS * ldo)
    store_product<MEED_ROWS, W>(x, ldx, panel, K, scale, out, ldo);
  switch (rows) {
#if MEED_ROWS > 4
    case 7: return store_product<7, W>(x, ldx, panel, K, scale, out, ldo);
    case 6: return store_product<6, W>(x, ldx, panel, K, scale, out, ldo);
    case 5: return store_product<5, W>(x, ldx, panel, K, scale, out, ldo);
    case 4: return store_product<4, W>(x, ldx, panel, K, scale, out, ldo);
#endif
    case 3: return store_product<3, W>(x, ldx, panel, K, scale, out, ldo);
    case 2: return store_product<2, W>(x, ldx, panel, K, scale, out, ldo);
    case 1: return store_product<1, W>(x, ldx, panel, K, scale, out, ldo);
    default: break;
  }
}

void product(const float* x, long ldx, long rows, const float* panel, long K, float* tile) {
  all_rows<kPanel>(x, ldx, rows, panel, K, 1.0f, tile, kPanel);
}
void product(const Bf16* x, long ldx, long rows, const Bf16* panel, long K, float* tile) {
  all_rows<kPanel>(x, ldx, rows, panel, K, 1.0f, tile, kPanel);
}
void page_scores(const float* q, long ldq, long rows, const float* keys, long d, float scale, float* scores, long lds) {
  all_rows<kPageTokens>(q, ldq, rows, keys, d, scale, scores, lds);
}
void page_scores(const Bf16* q, long ldq, long rows, const Bf16* keys, long d, float scale, float* scores, long lds) {
  all_rows<kPageTokens>(q, ldq, rows, keys, d, scale, scores, lds);
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
      F v = load(tile + c) * e.scale;
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
  F sums[R][C];
  for (int r = 0; r < R; ++r)
    for (int c = 0; c < C; ++c) sums[r][c] = load(out + r * d + c * kLanes);
  for (long t = 0; t < tokens; ++t, values += d) {
    F v[C];
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
  constexpr int R = MEED_ROWS / 2;  // beside four vectors of columns
  for (; rows >= R; rows -= R, p += R * ldp, out += R * d) values_rows<R>(p, ldp, values, tokens, d, out);
#if MEED_ROWS > 4
  if (rows == 3) return values_rows<3>(p, ldp, values, tokens, d, out);
  if (rows == 2) return values_rows<2>(p, ldp, values, tokens, d, out);
#endif
  if (rows == 1) values_rows<1>(p, ldp, values, tokens, d, out);
}
void page_values(const float* p, long ldp, long rows, const float* values, long tokens, long d, float* out) {
  page_values_impl(p, ldp, rows, values, tokens, d, out);
}
void page_values(const float* p, long ldp, long rows, const Bf16* values, long tokens, long d, float* out) {
  page_values_impl(p, ldp, rows, values, tokens, d, out);
}

// ---- softmax and sampling ----

MEED_INLINE F load_tail(const float* p, long n, float rest) {
  F x = splat(rest);
  for (long i = 0; i < n; ++i) x[i] = p[i];
  return x;
}

float softmax(float* x, long n) {
  const float lowest = -__builtin_inff();
  F best = splat(lowest);
  long i = 0;
  for (; i + kLanes <= n; i += kLanes) best = vmax(best, load(x + i));
  const F rest = load_tail(x + i, n - i, lowest);
  const float top = top_of(vmax(best, rest));
  F total{};
  for (i = 0; i + kLanes <= n; i += kLanes) {
    const F e = vexp(load(x + i) - top);
    store(x + i, e);
    total += e;
  }
  const F e = vexp(rest - top);
  for (long j = i; j < n; ++j) x[j] = e[j - i];
  return sum(total + e);
}

RowMaximum row_maximum(const float* x, long n) {
  const float infinity = __builtin_inff();
  F best = splat(-infinity);
  I bad{};
  long i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    const F v = load(x + i);
    bad |= v != v;
    best = vmax(best, v);
  }
  const F rest = load_tail(x + i, n - i, -infinity);
  bad |= rest != rest;
  const float top = top_of(vmax(best, rest));
  int any = 0;
  for (long j = 0; j < kLanes; ++j) any |= bad[j];
  return {top, any != 0 || top == infinity || top == -infinity};
}

float exp_sum(const float* x, long n, float shift, float scale) {
  F total{};
  long i = 0;
  for (; i + kLanes <= n; i += kLanes) total += vexp((load(x + i) - shift) * scale);
  return sum(total + vexp((load_tail(x + i, n - i, -__builtin_inff()) - shift) * scale));
}

void exp_row(const float* x, long n, float shift, float scale, float* y) {
  long i = 0;
  for (; i + kLanes <= n; i += kLanes) store(y + i, vexp((load(x + i) - shift) * scale));
  const F e = vexp((load_tail(x + i, n - i, -__builtin_inff()) - shift) * scale);
  for (long j = i; j < n; ++j) y[j] = e[j - i];
}

#undef MEED_INLINE
