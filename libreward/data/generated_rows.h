#pragma once

#include <cmath>
#include <numbers>
#include <string>
#include <vector>

#include "libpolicy/core/config.h"
#include "libpolicy/core/random.h"
#include "libpolicy/data/dataset.h"
#include "libreward/data/vector_example.h"

namespace meed {

/// Keys that every generator of preferences has. `seed` decides the hidden reward too, so that the
/// splits of one seed share it; row i of a split is the same whatever num_rows.
struct GeneratedKeys {
  int64_t num_rows = 1000, seed = 0;
  std::string split = "train";
  void fields(FieldVisitor& v);
};

/// Standard normal draws of a seed.
class NormalStream {
 public:
  explicit NormalStream(uint64_t seed) : random_(seed) {}
  double uniform() { return random_.next(); }
  int64_t next_int(int64_t low, int64_t high) { return random_.next_int(low, high); }
  double next() {
    const double radius = std::sqrt(-2.0 * std::log(1.0 - random_.next()));
    return radius * std::cos(2.0 * std::numbers::pi * random_.next());
  }
  std::vector<double> vector(int64_t size, double scale = 1.0);
  /// A random direction of this length.
  std::vector<double> direction(int64_t size, double length);

 private:
  RandomStream random_;
};

double dot(const std::vector<double>& a, const std::vector<double>& b);
std::vector<float> as_floats(const std::vector<double>& values);
/// The number as it stands in a column.
std::string as_column(double value);
std::string as_column(const std::vector<double>& values);

/// Rows in memory; what a generator is.
class GeneratedRows : public Dataset {
 public:
  int64_t size() const final { return static_cast<int64_t>(rows_.size()); }
  Example get(int64_t index) const final;

 protected:
  /// The stream that decides the hidden world, and that of row i.
  static NormalStream world(const GeneratedKeys& keys, uint64_t tag);
  static NormalStream row_stream(const GeneratedKeys& keys, uint64_t tag, int64_t row);
  /// A pair whose sides have these features and gold rewards; the first is chosen.
  static Example pair(const std::vector<double>& chosen, const std::vector<double>& rejected,
                      double chosen_gold, double rejected_gold);
  std::vector<Example> rows_;
};

}  // namespace meed
