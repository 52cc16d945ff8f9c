#include "libpolicy/core/ranking.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "libpolicy/core/error.h"

namespace meed {

std::vector<double> mean_ranks(std::span<const double> values) {
  std::vector<size_t> order(values.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return values[a] < values[b]; });
  std::vector<double> ranks(values.size());
  for (size_t first = 0; first < order.size();) {
    size_t end = first + 1;
    while (end < order.size() && values[order[end]] == values[order[first]]) ++end;
    for (size_t i = first; i < end; ++i)
      ranks[order[i]] = 0.5 * static_cast<double>(first + end - 1);
    first = end;
  }
  return ranks;
}

double rank_correlation(std::span<const double> a, std::span<const double> b) {
  MEED_CHECK(a.size() == b.size(), "rank_correlation: two series of one length");
  const auto x = mean_ranks(a), y = mean_ranks(b);
  const double mean = 0.5 * (static_cast<double>(x.size()) - 1.0);
  double xy = 0.0, xx = 0.0, yy = 0.0;
  for (size_t i = 0; i < x.size(); ++i) {
    xy += (x[i] - mean) * (y[i] - mean);
    xx += (x[i] - mean) * (x[i] - mean);
    yy += (y[i] - mean) * (y[i] - mean);
  }
  return xx > 0.0 && yy > 0.0 ? xy / std::sqrt(xx * yy) : 0.0;
}

double area_under_curve(std::span<const double> scores, const std::vector<bool>& positive) {
  MEED_CHECK(scores.size() == positive.size(), "area_under_curve: a score for each label");
  const auto ranks = mean_ranks(scores);
  double sum = 0.0, ones = 0.0;
  for (size_t i = 0; i < ranks.size(); ++i)
    if (positive[i]) sum += ranks[i], ones += 1.0;
  const double zeros = static_cast<double>(scores.size()) - ones;
  if (ones == 0.0 || zeros == 0.0) return std::nan("");
  return (sum - ones * (ones - 1.0) / 2.0) / (ones * zeros);
}

}  // namespace meed
