#include "libpolicy/generation/kv_cache.h"

#include <ATen/ops/zeros.h>

#include "libpolicy/core/error.h"
#include "libpolicy/generation/decode_kernels.h"

namespace meed {

int64_t KvShape::block() const { return decode::kPageTokens * head_dim; }

void* KvPagePool::take() {
  if (free_.empty()) {
    // Zeros: scores of the slots that no token has filled yet are computed and thrown away.
    made_.push_back(at::zeros({shape_.page_elements()}, at::TensorOptions().dtype(shape_.dtype)));
    return made_.back().data_ptr();
  }
  void* page = free_.back();
  free_.pop_back();
  return page;
}

void KvPagePool::release() {
  MEED_CHECK(free_.size() == made_.size(), "pages of the cache are in use");
  free_ = {};
  made_ = {};
}

int64_t KvSegment::pages_for(int64_t tokens) {
  return (tokens + decode::kPageTokens - 1) / decode::kPageTokens;
}

void KvSegment::promise(int64_t tokens) {
  const int64_t pages = pages_for(tokens);
  pool_->promised_ += pages - promised_;
  promised_ = pages;
}

void KvSegment::reserve(int64_t tokens) {
  while (static_cast<int64_t>(pages_.size()) < pages_for(tokens)) pages_.push_back(pool_->take());
}

void KvSegment::clear() {
  promise(0);
  for (void* page : pages_) pool_->give_back(page);
  pages_.clear();
}

}  // namespace meed
