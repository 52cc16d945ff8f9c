#include "algorithms/report/metric_reducer.h"

#include <cmath>
#include <limits>

#include "libpolicy/core/error.h"

namespace meed {
namespace {

/// std::min and std::max drop or keep a NaN by the order of their arguments; here it always stays.
double smaller(double a, double b) { return std::isnan(a) || b > a ? a : b; }
double larger(double a, double b) { return std::isnan(a) || b < a ? a : b; }

}  // namespace

void PartialMetric::add(const PartialMetric& other) {
  if (other.weight == 0) return;
  if (weight == 0) {
    *this = other;
    return;
  }
  weight += other.weight;
  switch (reduce) {
    case Reduce::kMean:
    case Reduce::kSum:
      total += other.total;
      break;
    case Reduce::kMin:
      total = smaller(total, other.total);
      break;
    case Reduce::kMax:
      total = larger(total, other.total);
      break;
  }
}

void MetricReducer::record(const std::string& key, double value, Reduce reduce, double weight) {
  MEED_CHECK(!key.empty(), "a metric needs a key");
  if (reduce == Reduce::kMean)
    add(key, {.reduce = reduce, .total = weight == 0 ? 0 : weight * value, .weight = weight});
  else
    add(key, {.reduce = reduce, .total = value, .weight = 1});
}

void MetricReducer::add(const std::string& key, const PartialMetric& partial) {
  const auto [entry, is_new] = partials_.emplace(key, partial);
  if (is_new) return;
  MEED_CHECK(entry->second.reduce == partial.reduce,
             "metric \"" + key + "\" is recorded with two different reductions");
  entry->second.add(partial);
}

std::map<std::string, double> MetricReducer::values() const {
  std::map<std::string, double> values;
  for (const auto& [key, partial] : partials_)
    if (partial.has_value()) values.emplace(key, partial.value());
  return values;
}

}  // namespace meed
