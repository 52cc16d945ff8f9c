#include "libpolicy/models/rope.h"

#include <ATen/ATen.h>

#include <cmath>
#include <numbers>

namespace meed {
namespace {

// Long wavelengths are slowed by `factor`, short ones kept, those between interpolated.
float llama3_frequency(float frequency, const RopeScaling& scaling) {
  const double low_wavelength =
      static_cast<double>(scaling.original_max_positions) / scaling.low_freq_factor;
  const double high_wavelength =
      static_cast<double>(scaling.original_max_positions) / scaling.high_freq_factor;
  const double wavelength = 2.0 * std::numbers::pi / frequency;
  if (wavelength < high_wavelength) return frequency;
  if (wavelength > low_wavelength) return static_cast<float>(frequency / scaling.factor);
  const double smooth =
      (static_cast<double>(scaling.original_max_positions) / wavelength - scaling.low_freq_factor) /
      (scaling.high_freq_factor - scaling.low_freq_factor);
  return static_cast<float>((1.0 - smooth) * frequency / scaling.factor + smooth * frequency);
}

}  // namespace

std::vector<float> rope_inverse_frequencies(const ModelConfig& config) {
  std::vector<float> frequencies(config.head_dim / 2);
  for (size_t i = 0; i < frequencies.size(); ++i) {
    const float exponent = static_cast<float>(2 * i) / static_cast<float>(config.head_dim);
    const float frequency = 1.0f / std::pow(static_cast<float>(config.rope_theta), exponent);
    const auto& scaling = config.rope_scaling;
    if (scaling.type == "linear")
      frequencies[i] = static_cast<float>(frequency / scaling.factor);
    else if (scaling.type == "llama3")
      frequencies[i] = llama3_frequency(frequency, scaling);
    else
      frequencies[i] = frequency;
  }
  return frequencies;
}

RotaryTables RotaryCache::at(const at::Tensor& positions_N) {
  if (inverse_frequencies_.empty()) return {};
  const int64_t needed = positions_N.max().item<int64_t>() + 1;
  if (!cosine_.defined() || cosine_.size(0) < needed) {
    int64_t capacity = 256;
    while (capacity < needed) capacity *= 2;
    const auto angles =
        at::outer(at::arange(capacity, at::kFloat), at::tensor(inverse_frequencies_));
    cosine_ = angles.cos();
    sine_ = angles.sin();
  }
  return {cosine_.index_select(0, positions_N), sine_.index_select(0, positions_N)};
}

}  // namespace meed
