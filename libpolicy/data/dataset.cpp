#include "libpolicy/data/dataset.h"

#include <algorithm>
#include <numeric>

#include "libpolicy/core/error.h"
#include "libpolicy/core/random.h"

namespace meed {

Registry<Dataset>& datasets() {
  static Registry<Dataset> registry("dataset");
  return registry;
}

Sampler::Sampler(int64_t dataset_size, uint64_t seed, bool shuffle)
    : dataset_size_(dataset_size), seed_(seed), shuffle_(shuffle) {
  if (dataset_size <= 0) throw DataError("the dataset has no rows");
}

const std::vector<int64_t>& Sampler::order(int64_t epoch) {
  if (epoch == cached_epoch_) return order_;
  order_.resize(static_cast<size_t>(dataset_size_));
  std::iota(order_.begin(), order_.end(), 0);
  if (shuffle_) {
    RandomStream random(mix_seed({seed_, static_cast<uint64_t>(epoch)}));
    for (int64_t i = dataset_size_ - 1; i > 0; --i)
      std::swap(order_[static_cast<size_t>(i)], order_[static_cast<size_t>(random.next_int(0, i))]);
  }
  cached_epoch_ = epoch;
  return order_;
}

std::vector<int64_t> Sampler::next(int64_t count) {
  std::vector<int64_t> rows;
  for (int64_t i = 0; i < count; ++i, ++position_)
    rows.push_back(
        order(position_ / dataset_size_)[static_cast<size_t>(position_ % dataset_size_)]);
  return rows;
}

void Sampler::seek(int64_t position) {
  MEED_CHECK(position >= 0, "negative position");
  position_ = position;
}

double Sampler::epoch() const {
  return static_cast<double>(position_) / static_cast<double>(dataset_size_);
}

}  // namespace meed
