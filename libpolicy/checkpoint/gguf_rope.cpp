#include "libpolicy/checkpoint/gguf_rope.h"

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <numbers>
#include <optional>

#include "libpolicy/checkpoint/gguf.h"
#include "libpolicy/core/error.h"

namespace meed {
namespace {

using Json = nlohmann::ordered_json;

struct Llama3 {
  double factor, high, original;  // low_freq_factor is 1

  double divisor(double frequency) const {
    const double turns = original * frequency / (2.0 * std::numbers::pi);
    const double smooth = std::clamp((turns - 1.0) / (high - 1.0), 0.0, 1.0);
    return 1.0 / ((1.0 - smooth) / factor + smooth);
  }
};

/// Between its two ends Llama-3's rule is linear in the frequency: 1 / divisor = (1 - s) / factor +
/// s with s = (original f / 2 pi - low) / (high - low). A straight line through two dimensions
/// gives the parameters, up to a scale that the three share; low = 1 is what the models have.
std::optional<Llama3> llama3_of(const std::vector<double>& frequencies,
                                const std::vector<double>& divisors) {
  const double factor = *std::max_element(divisors.begin(), divisors.end());
  if (factor <= 1.0) return std::nullopt;
  std::vector<std::pair<double, double>> line;  // frequency, s
  for (size_t i = 0; i < divisors.size(); ++i) {
    const double s = (1.0 / divisors[i] - 1.0 / factor) / (1.0 - 1.0 / factor);
    if (s > 1e-4 && s < 1.0 - 1e-4) line.emplace_back(frequencies[i], s);
  }
  Llama3 found{factor, 4.0, 8192.0};  // what Llama 3.1 has, where too few dimensions tell
  if (line.size() >= 2) {
    const auto [f0, s0] = line.front();
    const auto [f1, s1] = line.back();
    const double slope = (s0 - s1) / (f0 - f1), at_zero = s0 - slope * f0;
    if (!(slope > 0) || !(at_zero < 0)) return std::nullopt;
    found.high = std::round((1.0 - 1.0 / at_zero) * 1e3) / 1e3;
    found.original = std::round(slope * (found.high - 1.0) * 2.0 * std::numbers::pi);
  }
  for (size_t i = 0; i < divisors.size(); ++i)
    if (std::abs(found.divisor(frequencies[i]) / divisors[i] - 1.0) > 1e-3) return std::nullopt;
  return found;
}

Json of_divisors(const GgufFile& file, double theta, int64_t head_dim) {
  const auto tensor = file.load("rope_freqs.weight");
  const auto* values = tensor.const_data_ptr<float>();
  const std::vector<double> divisors(values, values + tensor.numel());
  const bool positive = std::all_of(divisors.begin(), divisors.end(),
                                    [](double d) { return std::isfinite(d) && d > 0; });
  if (static_cast<int64_t>(divisors.size()) != head_dim / 2 || !positive)
    throw DataError(file.path() + ": rope_freqs.weight: expected " + std::to_string(head_dim / 2) +
                    " positive numbers, half of the head's dimensions");
  std::vector<double> frequencies;
  for (int64_t i = 0; i < head_dim / 2; ++i)
    frequencies.push_back(
        std::pow(theta, -2.0 * static_cast<double>(i) / static_cast<double>(head_dim)));
  if (const auto llama3 = llama3_of(frequencies, divisors))
    return {{"rope_type", "llama3"},
            {"factor", llama3->factor},
            {"low_freq_factor", 1.0},
            {"high_freq_factor", llama3->high},
            {"original_max_position_embeddings", static_cast<int64_t>(llama3->original)}};
  return {{"rope_type", "longrope"},
          {"factor", 1.0},
          {"short_factor", divisors},
          {"long_factor", divisors},
          {"attention_factor", 1.0}};
}

}  // namespace

std::string gguf_rope_scaling(const GgufFile& file, const std::string& arch, double theta,
                              int64_t head_dim) {
  const std::string key = arch + ".rope.scaling.";
  const auto type = file.string(key + "type").value_or("none");
  const double factor = file.number(key + "factor").value_or(1.0);
  if (file.has_tensor("rope_freqs.weight")) return of_divisors(file, theta, head_dim).dump();
  if (type == "none" || type.empty()) return "";
  if (type == "linear") return Json{{"rope_type", "linear"}, {"factor", factor}}.dump();
  if (type != "yarn")
    throw DataError(file.path() + ": " + key + "type \"" + type +
                    "\" is not supported (none, linear, yarn)");
  Json yarn = {{"rope_type", "yarn"}, {"factor", factor}};
  if (const auto length = file.integer(key + "original_context_length"))
    yarn["original_max_position_embeddings"] = *length;
  for (const auto& [theirs, ours] :
       {std::pair{"yarn_beta_fast", "beta_fast"}, {"yarn_beta_slow", "beta_slow"}})
    if (const auto value = file.number(key + theirs)) yarn[ours] = *value;
  // llama.cpp's attn_factor comes on top of the usual 0.1 ln(factor) + 1.
  if (const auto scale = file.number(key + "attn_factor"))
    yarn["attention_factor"] = *scale * (factor > 1 ? 0.1 * std::log(factor) + 1.0 : 1.0);
  return yarn.dump();
}

}  // namespace meed
