#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "libpolicy/core/metrics.h"

namespace meed {

/// What is known of one metric before the division: exact to combine in any split over ranks.
struct PartialMetric {
  Reduce reduce = Reduce::kMean;
  double total = 0;   ///< kMean: sum of weight * value; else the sum, minimum or maximum
  double weight = 0;  ///< kMean: sum of weights; else number of values

  void add(const PartialMetric& other);
  bool has_value() const { return weight != 0; }
  double value() const { return reduce == Reduce::kMean ? total / weight : total; }
};

/// The metrics of one step on one rank, by key.
class MetricReducer {
 public:
  /// Throws InternalError if the key has another `reduce` already, or is empty.
  void record(const std::string& key, double value, Reduce reduce, double weight);
  void add(const std::string& key, const PartialMetric& partial);
  const std::map<std::string, PartialMetric>& partials() const { return partials_; }
  /// Keys with a value; those whose weights sum to 0 are left out.
  std::map<std::string, double> values() const;
  void clear() { partials_.clear(); }

 private:
  std::map<std::string, PartialMetric> partials_;
};

}  // namespace meed
