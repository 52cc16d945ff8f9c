#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "libpolicy/core/registry.h"
#include "libpolicy/data/example.h"

namespace meed {

/// Random access to rows, so that order, sharding and resumption live in one place: Sampler.
class Dataset {
 public:
  virtual ~Dataset() = default;
  virtual int64_t size() const = 0;
  virtual Example get(int64_t index) const = 0;  ///< Throws DataError naming file and line.
  /// Rows that were malformed and left out (`on_bad_row: skip`).
  virtual int64_t num_skipped() const { return 0; }
};

/// `type:` of a recipe's data section: "jsonl" (also .gz and JSON arrays), "arithmetic", ...
Registry<Dataset>& datasets();

/// The rows of the global batch, in a seeded order that does not depend on the number of processes.
/// Its whole state is `position` (rows handed out over all epochs).
class Sampler {
 public:
  Sampler(int64_t dataset_size, uint64_t seed, bool shuffle = true);
  /// The next `count` rows of the global order; wraps into the next epoch, reshuffled.
  std::vector<int64_t> next(int64_t count);
  int64_t position() const { return position_; }
  void seek(int64_t position);
  double epoch() const;

 private:
  const std::vector<int64_t>& order(int64_t epoch);
  int64_t dataset_size_;
  uint64_t seed_;
  bool shuffle_;
  int64_t position_ = 0;
  int64_t cached_epoch_ = -1;
  std::vector<int64_t> order_;
};

}  // namespace meed
