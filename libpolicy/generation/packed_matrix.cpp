#include "libpolicy/generation/packed_matrix.h"

#include <ATen/Parallel.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <atomic>

#include "libpolicy/core/error.h"

namespace meed {
namespace {

using decode::Bf16;
using decode::kPanel;

// Rows that go through a panel at a time: their tile stays in the first-level cache.
constexpr int64_t kTileRows = 64;

template <typename T>
void pack_rows(const at::Tensor& weight, int64_t first, T* panels) {
  const int64_t in = weight.size(1), out = weight.size(0);
  const auto* source = static_cast<const T*>(weight.const_data_ptr());
  at::parallel_for(0, (first + out + kPanel - 1) / kPanel - first / kPanel, 4,
                   [&](int64_t begin, int64_t end) {
                     const int64_t from = std::max(first, (first / kPanel + begin) * kPanel);
                     const int64_t to = std::min(first + out, (first / kPanel + end) * kPanel);
                     for (int64_t row = from; row < to; ++row) {
                       T* panel = panels + row / kPanel * kPanel * in;
                       const T* values = source + (row - first) * in;
                       for (int64_t k = 0; k < in; ++k)
                         panel[decode::panel_index(panels, k, row % kPanel, kPanel)] = values[k];
                     }
                   });
}

}  // namespace

PackedMatrix::PackedMatrix(const std::vector<at::Tensor>& weights) : in_(weights.front().size(1)) {
  const auto dtype = weights.front().scalar_type();
  for (const auto& weight : weights) {
    MEED_CHECK(weight.size(1) == in_ && weight.scalar_type() == dtype,
               "stacked weights must be alike");
    out_ += weight.size(0);
  }
  MEED_CHECK(dtype == at::kFloat || (dtype == at::kBFloat16 && in_ % 2 == 0),
             "cannot pack this matrix");
  storage_ = at::zeros({(out_ + kPanel - 1) / kPanel, in_ * kPanel}, weights.front().options());
  int64_t first = 0;
  for (const auto& weight : weights) {
    const auto rows = weight.contiguous();
    if (dtype == at::kFloat)
      pack_rows(rows, first, static_cast<float*>(storage_.data_ptr()));
    else
      pack_rows(rows, first, static_cast<Bf16*>(storage_.data_ptr()));
    first += weight.size(0);
  }
}

template <typename T, typename Y>
void PackedMatrix::multiply(const T* x, int64_t ldx, int64_t rows, Y* y, int64_t ldy,
                            const decode::Epilogue& epilogue, bool round) const {
  const auto* panels = static_cast<const T*>(storage_.const_data_ptr());
  const int64_t count = storage_.size(0), threads = at::get_num_threads();
  // Contiguous runs of panels for the prefetcher, several per thread so that a delayed thread does
  // not hold up the others.
  const int64_t run = std::max<int64_t>(1, count / (threads * 4));
  std::atomic<int64_t> next{0};
  at::parallel_for(0, threads, 1, [&](int64_t, int64_t) {
    alignas(64) float tile[kTileRows * kPanel];
    for (int64_t begin = next.fetch_add(run); begin < count; begin = next.fetch_add(run))
      for (int64_t p = begin; p < std::min(begin + run, count); ++p) {
        const int64_t column = p * kPanel, columns = std::min<int64_t>(kPanel, out_ - column);
        decode::Epilogue e = epilogue;
        if (e.bias) e.bias += column;
        for (int64_t r = 0; r < rows; r += kTileRows) {
          const int64_t n = std::min(kTileRows, rows - r);
          decode::product(x + r * ldx, ldx, n, panels + p * kPanel * in_, in_, tile);
          decode::finish(tile, n, columns, e, round, y + r * ldy + column, ldy);
        }
      }
  });
}

template void PackedMatrix::multiply(const float*, int64_t, int64_t, float*, int64_t,
                                     const decode::Epilogue&, bool) const;
template void PackedMatrix::multiply(const Bf16*, int64_t, int64_t, float*, int64_t,
                                     const decode::Epilogue&, bool) const;
template void PackedMatrix::multiply(const Bf16*, int64_t, int64_t, Bf16*, int64_t,
                                     const decode::Epilogue&, bool) const;

}  // namespace meed
