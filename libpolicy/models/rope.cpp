#include "libpolicy/models/rope.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <numbers>

#include "libpolicy/core/error.h"

namespace meed {
namespace {

/// theta^(2 i / head_dim): a rotation's inverse frequency before scaling.
float plain_power(const ModelConfig& config, size_t i) {
  const float exponent = static_cast<float>(2 * i) / static_cast<float>(config.head_dim);
  return std::pow(static_cast<float>(config.rope_theta), exponent);
}

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

// Fast rotations are kept, slow ones slowed by `factor`, with a ramp over the dimensions between
// those that turn beta_fast and beta_slow times within the original length.
std::vector<float> yarn_frequencies(const ModelConfig& config) {
  const auto& scaling = config.rope_scaling;
  const auto dim = static_cast<double>(config.head_dim);
  const auto dimension_turning = [&](double rotations) {
    const double length = static_cast<double>(scaling.original_max_positions);
    return dim * std::log(length / (rotations * 2.0 * std::numbers::pi)) /
           (2.0 * std::log(config.rope_theta));
  };
  double low = dimension_turning(scaling.beta_fast), high = dimension_turning(scaling.beta_slow);
  if (scaling.truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, dim - 1.0);
  if (low == high) high += 0.001;
  std::vector<float> frequencies(config.head_dim / 2);
  for (size_t i = 0; i < frequencies.size(); ++i) {
    const float power = plain_power(config, i);
    const auto ramp =
        static_cast<float>(std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0));
    const float slowed = 1.0f / (static_cast<float>(scaling.factor) * power);
    frequencies[i] = slowed * ramp + (1.0f / power) * (1.0f - ramp);
  }
  return frequencies;
}

}  // namespace

RotaryFrequencies rotary_frequencies(const ModelConfig& config) {
  const auto& scaling = config.rope_scaling;
  if (scaling.type == "yarn")
    return {yarn_frequencies(config), static_cast<float>(scaling.attention_factor)};
  RotaryFrequencies frequencies;
  for (size_t i = 0; i < static_cast<size_t>(config.head_dim / 2); ++i) {
    const float frequency = 1.0f / plain_power(config, i);
    if (scaling.type == "linear")
      frequencies.inverse.push_back(static_cast<float>(frequency / scaling.factor));
    else if (scaling.type == "longrope")
      frequencies.inverse.push_back(
          1.0f / (static_cast<float>(scaling.short_factor[i]) * plain_power(config, i)));
    else if (scaling.type == "llama3")
      frequencies.inverse.push_back(llama3_frequency(frequency, scaling));
    else
      frequencies.inverse.push_back(frequency);
  }
  if (scaling.type == "dynamic") frequencies.max_positions = config.max_positions;
  if (scaling.type == "longrope") {
    frequencies.attention_factor = static_cast<float>(scaling.attention_factor);
    if (scaling.short_factor != scaling.long_factor)
      frequencies.max_positions = scaling.original_max_positions;
  }
  return frequencies;
}

RotaryTables RotaryCache::at(const at::Tensor& positions_N) {
  if (frequencies_.inverse.empty()) return {};
  const int64_t needed = positions_N.max().item<int64_t>() + 1;
  if (frequencies_.max_positions > 0 && needed > frequencies_.max_positions)
    throw DataError("a sequence of " + std::to_string(needed) + " tokens exceeds the model's " +
                    std::to_string(frequencies_.max_positions) +
                    " positions, beyond which rope_type \"dynamic\" and \"longrope\" turn the "
                    "whole sequence otherwise, which is not supported; shorten the sequences");
  if (!cosine_.defined() || cosine_.size(0) < needed) {
    int64_t capacity = 256;
    while (capacity < needed) capacity *= 2;
    const auto angles =
        at::outer(at::arange(capacity, at::kFloat), at::tensor(frequencies_.inverse));
    cosine_ = angles.cos().mul_(frequencies_.attention_factor);
    sine_ = angles.sin().mul_(frequencies_.attention_factor);
  }
  return {cosine_.index_select(0, positions_N), sine_.index_select(0, positions_N)};
}

}  // namespace meed
