#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <string>

#include "libpolicy/core/metrics.h"

namespace meed {

/// A number that adds up over micro-batches and ranks: the mean is sum / weight. kMin and kMax look
/// at `sum` alone.
struct MetricSum {
  double sum = 0.0;
  double weight = 1.0;
  Reduce reduce = Reduce::kMean;
};
using MetricSums = std::map<std::string, MetricSum>;

/// What a loss returns. It is already divided by the count over the whole step and all ranks, so
/// losses and gradients of micro-batches and of ranks add up.
struct LossOutput {
  at::Tensor loss;     ///< scalar, float32
  MetricSums metrics;  ///< detached
};

/// Adds `from` to `into`.
void merge(MetricSums& into, const MetricSums& from);
/// Records each as a weighted mean under prefix + key.
void record_metrics(MetricsWriter& writer, const MetricSums& sums, const std::string& prefix = "");

}  // namespace meed
