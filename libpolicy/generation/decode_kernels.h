#pragma once

#include <cstdint>

/// Inner loops of decoding over plain pointers, compiled for several instruction sets and chosen at
/// start-up. Single-threaded; callers split the work. Elements are float or Bf16, sums are float32.
///
/// Everything here is row-independent: what a row yields does not depend on how many rows are
/// computed with it, bit for bit. That is what makes a sequence's sample independent of its batch
/// neighbours.
namespace meed::decode {

using Bf16 = uint16_t;  ///< bit pattern of a bfloat16

/// Columns (output features) of a packed panel.
constexpr long kPanel = 48;
/// Tokens of a page of the key/value cache.
constexpr long kPageTokens = 32;

/// What becomes of a product's tile.
struct Epilogue {
  const float* bias = nullptr;  ///< [columns of the panel] or null
  float scale = 1.0f;           ///< of the product, before the bias
  bool add = false;             ///< add to what stands at the target
};

/// One block of log-weights: see sampling.cpp.
struct RowMaximum {
  float max;
  bool nan;  ///< a NaN or +infinity stands in the row
};

#define MEED_DECODE_KERNELS(X)                                                                     \
  X(void, product, (const float* x, long ldx, long rows, const float* panel, long K, float* tile), \
    (x, ldx, rows, panel, K, tile))                                                                \
  X(void, product, (const Bf16* x, long ldx, long rows, const Bf16* panel, long K, float* tile),   \
    (x, ldx, rows, panel, K, tile))                                                                \
  X(void, finish,                                                                                  \
    (const float* tile, long rows, long columns, const Epilogue& e, bool round, float* y,          \
     long ldy),                                                                                    \
    (tile, rows, columns, e, round, y, ldy))                                                       \
  X(void, finish,                                                                                  \
    (const float* tile, long rows, long columns, const Epilogue& e, bool round, Bf16* y,           \
     long ldy),                                                                                    \
    (tile, rows, columns, e, round, y, ldy))                                                       \
  X(void, page_scores,                                                                             \
    (const float* q, long ldq, long rows, const float* keys, long d, float scale, float* scores,   \
     long lds),                                                                                    \
    (q, ldq, rows, keys, d, scale, scores, lds))                                                   \
  X(void, page_scores,                                                                             \
    (const Bf16* q, long ldq, long rows, const Bf16* keys, long d, float scale, float* scores,     \
     long lds),                                                                                    \
    (q, ldq, rows, keys, d, scale, scores, lds))                                                   \
  X(void, page_values,                                                                             \
    (const float* p, long ldp, long rows, const float* values, long tokens, long d, float* out),   \
    (p, ldp, rows, values, tokens, d, out))                                                        \
  X(void, page_values,                                                                             \
    (const float* p, long ldp, long rows, const Bf16* values, long tokens, long d, float* out),    \
    (p, ldp, rows, values, tokens, d, out))                                                        \
  X(float, softmax, (float* x, long n), (x, n))                                                    \
  X(RowMaximum, row_maximum, (const float* x, long n), (x, n))                                     \
  X(float, exp_sum, (const float* x, long n, float shift, float scale), (x, n, shift, scale))      \
  X(void, exp_row, (const float* x, long n, float shift, float scale, float* y),                   \
    (x, n, shift, scale, y))

// product      tile [rows, kPanel] = x [rows, K] panel. K is even for Bf16.
// finish       y [rows, columns] (+)= scale * tile + bias; `round`: through bfloat16 (float targets
// only) page_scores  scores [rows, kPageTokens] = scale * q [rows, d] keys; keys as a panel of
// kPageTokens columns page_values  out [rows, d] += p [rows, tokens] values [tokens, d] softmax x
// -> exp(x - max); returns the sum exp_sum      sum of exp((x - shift) * scale);   exp_row: the
// terms
#define MEED_DECLARE(R, name, params, args) R name params;
MEED_DECODE_KERNELS(MEED_DECLARE)
#undef MEED_DECLARE

/// Where value (k, column) of a [K, columns] block stands in a panel `width` columns wide. Bf16
/// panels hold pairs of k, as the processors' dot products take them.
constexpr long panel_index(const float*, long k, long column, long width) {
  return k * width + column;
}
constexpr long panel_index(const Bf16*, long k, long column, long width) {
  return (k / 2 * width + column) * 2 + k % 2;
}

}  // namespace meed::decode
