#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <cstdint>
#include <vector>

namespace meed {

/// What a page of the cache holds: keys and values of decode::kPageTokens tokens, for all layers
/// and heads.
struct KvShape {
  int64_t num_layers = 0, num_kv_heads = 0, head_dim = 0;
  at::ScalarType dtype = at::kFloat;

  /// Elements of one layer's and head's keys (or values) in a page.
  int64_t block() const;
  int64_t page_elements() const { return num_layers * num_kv_heads * 2 * block(); }
  /// Element offset of the keys of a layer's head; its values follow.
  int64_t offset(int64_t layer, int64_t head) const {
    return (layer * num_kv_heads + head) * 2 * block();
  }
};

/// Pages made as they are needed and used again when a sequence has ended.
class KvPagePool {
 public:
  explicit KvPagePool(const KvShape& shape) : shape_(shape) {}
  const KvShape& shape() const { return shape_; }
  void* take();
  void give_back(void* page) { free_.push_back(page); }
  /// Pages that segments may come to hold (KvSegment::promise).
  int64_t pages_promised() const { return promised_; }
  /// Frees all pages. None may be in use.
  void release();
  int64_t pages_made() const { return static_cast<int64_t>(made_.size()); }

 private:
  friend class KvSegment;
  KvShape shape_;
  std::vector<at::Tensor> made_;
  std::vector<void*> free_;
  int64_t promised_ = 0;
};

/// The cache of consecutive tokens: a prompt, or what one sample adds to it. Gives its pages back.
class KvSegment {
 public:
  explicit KvSegment(KvPagePool& pool) : pool_(&pool) {}
  ~KvSegment() { clear(); }
  KvSegment(const KvSegment&) = delete;
  KvSegment& operator=(const KvSegment&) = delete;

  static int64_t pages_for(int64_t tokens);
  /// Says how many tokens it may come to hold, for the pool's account of pages; replaces what it
  /// said before.
  void promise(int64_t tokens);
  int64_t pages_promised() const { return promised_; }
  /// Makes room for `tokens` tokens.
  void reserve(int64_t tokens);
  void clear();
  void* page(int64_t index) const { return pages_[index]; }

 private:
  KvPagePool* pool_;
  std::vector<void*> pages_;
  int64_t promised_ = 0;
};

/// Where a token's keys and values go and what it may attend to: the `prefix_length` tokens of
/// `prefix` (may be null), then its own segment up to itself.
struct KvSequence {
  const KvSegment* prefix = nullptr;
  int64_t prefix_length = 0;
  KvSegment* own = nullptr;
};

}  // namespace meed
