#pragma once

#include <span>
#include <vector>

namespace meed {

/// Ranks 0, 1, ... of values from the least on; equal values share the mean of theirs.
std::vector<double> mean_ranks(std::span<const double> values);

/// Spearman's rank correlation, mean ranks for ties; 0 where one side does not vary. Throws
/// InternalError if the sizes differ.
double rank_correlation(std::span<const double> a, std::span<const double> b);

/// Area under the ROC curve: how often a positive scores above a negative (ties count a half). NaN
/// if one kind is missing. Throws InternalError if the sizes differ.
double area_under_curve(std::span<const double> scores, const std::vector<bool>& positive);

}  // namespace meed
