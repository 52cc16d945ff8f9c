#include "libpolicy/models/packed_batch.h"

#include <ATen/ops/tensor.h>

#include "libpolicy/core/error.h"

namespace meed {

int64_t PackedBatchBuilder::add(std::span<const int64_t> ids, int64_t prefix) {
  MEED_CHECK(!ids.empty(), "a segment needs at least one token");
  const auto segment = static_cast<int64_t>(prefixes_.size());
  int64_t position = 0, predecessor = -1;
  if (prefix >= 0) {
    MEED_CHECK(prefix < segment, "a prefix must be added before the segments that share it");
    MEED_CHECK(prefixes_[prefix] < 0, "a prefix has no prefix of its own");
    position = cu_seqlens_[prefix + 1] - cu_seqlens_[prefix];
    predecessor = cu_seqlens_[prefix + 1] - 1;
  }
  for (const int64_t id : ids) {
    predecessors_.push_back(predecessor);
    predecessor = static_cast<int64_t>(ids_.size());
    ids_.push_back(id);
    positions_.push_back(position++);
  }
  cu_seqlens_.push_back(static_cast<int64_t>(ids_.size()));
  prefixes_.push_back(prefix < 0 ? -1 : prefix);
  return segment;
}

PackedBatch PackedBatchBuilder::build() const {
  const auto options = at::TensorOptions().dtype(at::kLong);
  return {.ids_N = at::tensor(ids_, options),
          .positions_N = at::tensor(positions_, options),
          .predecessors_N = at::tensor(predecessors_, options),
          .cu_seqlens = cu_seqlens_,
          .prefixes = prefixes_};
}

}  // namespace meed
