#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

namespace meed {

/// How much of a run goes into its page.
struct ReportLimits {
  size_t max_points = 1000;       ///< of each curve
  size_t max_completions = 2000;  ///< evenly over the steps; before and after come first
  size_t max_text_bytes = 6000;   ///< of one prompt or completion
};

/// Indices of at most `max_points` points, first and last among them, that keep the shape of a
/// curve (largest triangle three buckets, Steinarsson 2013). x must not fall.
std::vector<size_t> downsample(std::span<const double> x, std::span<const double> y,
                               size_t max_points);

/// A run folder as the JSON object that the page draws: name, algorithm, steps, curves,
/// completions, recipe, environment and, under "problems", what is missing or damaged. Works on a
/// run that is unfinished or broken; throws DataError only if the folder holds nothing of a run.
std::string run_as_json(const std::filesystem::path& folder, const ReportLimits& limits = {});

}  // namespace meed
