#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace meed {

namespace device {
struct AttentionPlan;
}

/// Token sequences end to end, without padding. N: all tokens, B: segments.
///
/// A segment attends causally to itself and, if it has a prefix, to the whole of that earlier
/// segment: the G completions of a prompt are G segments that name the prompt's segment, which
/// stands once. A prefix has no prefix of its own.
struct PackedBatch {
  at::Tensor ids_N;        ///< int64
  at::Tensor positions_N;  ///< int64, position in its sequence (prefix included)
  /// int64, index into [0, N) of the token before, -1 at the start of a sequence. Token n is
  /// predicted from the hidden state of predecessors_N[n].
  at::Tensor predecessors_N;
  std::vector<int64_t> cu_seqlens;  ///< [B + 1] first token of each segment, then N
  std::vector<int64_t> prefixes;    ///< [B] segment index, -1 for none
  /// What attention on another device than the CPU has worked out for this batch (device_ops.h).
  mutable std::shared_ptr<const device::AttentionPlan> attention_plan = nullptr;

  int64_t num_tokens() const { return cu_seqlens.back(); }
  int64_t num_segments() const { return static_cast<int64_t>(prefixes.size()); }
};

/// Collects segments; build() makes the tensors (on the CPU).
class PackedBatchBuilder {
 public:
  /// Returns the segment's index. Throws InternalError on an empty segment or a prefix that has a
  /// prefix.
  int64_t add(std::span<const int64_t> ids, int64_t prefix = -1);
  int64_t num_tokens() const { return static_cast<int64_t>(ids_.size()); }
  PackedBatch build() const;

 private:
  std::vector<int64_t> ids_, positions_, predecessors_, cu_seqlens_{0}, prefixes_;
};

}  // namespace meed
