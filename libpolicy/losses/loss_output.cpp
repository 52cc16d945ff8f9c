#include "libpolicy/losses/loss_output.h"

#include <algorithm>

namespace meed {

void merge(MetricSums& into, const MetricSums& from) {
  for (const auto& [key, value] : from) {
    const auto [place, added] = into.emplace(key, value);
    if (added) continue;
    auto& total = place->second;
    if (value.reduce == Reduce::kMin) {
      total.sum = std::min(total.sum, value.sum);
    } else if (value.reduce == Reduce::kMax) {
      total.sum = std::max(total.sum, value.sum);
    } else {
      total.sum += value.sum;
      total.weight += value.weight;
    }
  }
}

void record_metrics(MetricsWriter& writer, const MetricSums& sums, const std::string& prefix) {
  for (const auto& [key, value] : sums) {
    if (value.reduce == Reduce::kMean && value.weight <= 0.0) continue;
    const double number = value.reduce == Reduce::kMean ? value.sum / value.weight : value.sum;
    writer.record(prefix + key, number, value.reduce, value.weight);
  }
}

}  // namespace meed
