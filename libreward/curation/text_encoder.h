#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <span>
#include <string>
#include <vector>

namespace meed {

/// Texts as vectors of length 1, whose products are cosine similarities.
class TextEncoder {
 public:
  virtual ~TextEncoder() = default;
  /// "hashed_ngrams": counts of words and of their letters in threes, hashed into 512 numbers; or
  /// the folder of a sentence encoder (BERT, mean over tokens). Throws DataError.
  static std::unique_ptr<TextEncoder> create(const std::string& name);
  /// float32 [N, D]. A text without words is the zero vector: similar to nothing.
  virtual at::Tensor embed(std::span<const std::string> texts) = 0;
};

/// The points' first two principal components, [N, 2] float64; fewer than two dimensions of spread
/// leave zeros. The sign of a component is that of its largest loading.
at::Tensor principal_plane(const at::Tensor& points_ND);

/// Indices of the vertices of the convex hull of points in a plane, counter-clockwise from the
/// lowest x (then y); points on an edge are none. All indices of two distinct points or fewer.
std::vector<int64_t> convex_hull(const at::Tensor& points_N2);

}  // namespace meed
