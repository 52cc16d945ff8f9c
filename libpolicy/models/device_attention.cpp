#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <span>

#include "libpolicy/models/device_ops.h"

namespace meed::device {
namespace {

// Sequences that are padded to one length are at least this share of it.
constexpr double kLeastFill = 0.75;
// Tokens of a group at most, padding included, so that long sequences go through alone.
constexpr int64_t kMaxTokens = int64_t{1} << 17;

/// A segment with the prefix that it continues. It answers for its own tokens; one of the segments
/// that share a prefix, or the prefix itself if there is none, answers for the prefix's too.
struct Sequence {
  int64_t prefix_begin = 0, prefix_length = 0, begin = 0, length = 0;
  bool owns_prefix = false;
  int64_t total() const { return prefix_length + length; }
};

std::vector<Sequence> sequences_of(const PackedBatch& batch) {
  const auto B = static_cast<size_t>(batch.num_segments());
  std::vector<int64_t> owner(B, -1);
  for (size_t s = 0; s < B; ++s)
    if (const int64_t p = batch.prefixes[s]; p >= 0 && owner[static_cast<size_t>(p)] < 0)
      owner[static_cast<size_t>(p)] = static_cast<int64_t>(s);
  std::vector<Sequence> sequences;
  for (size_t s = 0; s < B; ++s) {
    if (owner[s] >= 0) continue;
    Sequence sequence{.begin = batch.cu_seqlens[s],
                      .length = batch.cu_seqlens[s + 1] - batch.cu_seqlens[s]};
    if (const int64_t p = batch.prefixes[s]; p >= 0) {
      const auto prefix = static_cast<size_t>(p);
      sequence.prefix_begin = batch.cu_seqlens[prefix];
      sequence.prefix_length = batch.cu_seqlens[prefix + 1] - sequence.prefix_begin;
      sequence.owns_prefix = owner[prefix] == static_cast<int64_t>(s);
    }
    sequences.push_back(sequence);
  }
  return sequences;
}

/// Some sequences side by side: place (i, t) of [count, length] is token rows[i * length + t].
struct Group {
  int64_t count = 0, length = 0;
  at::Tensor rows;        // [count * length]; 0 where a sequence has ended
  at::Tensor owned;       // [n] places that answer for their token
  at::Tensor owned_rows;  // [n] and that token
  at::Tensor lengths;     // [count]
};

Group make_group(std::span<const Sequence> sequences, at::Device device) {
  Group group{.count = static_cast<int64_t>(sequences.size()), .length = sequences[0].total()};
  std::vector<int64_t> rows(static_cast<size_t>(group.count * group.length), 0), owned, owned_rows,
      lengths;
  for (int64_t i = 0; i < group.count; ++i) {
    const auto& sequence = sequences[static_cast<size_t>(i)];
    lengths.push_back(sequence.total());
    for (int64_t t = 0; t < sequence.total(); ++t) {
      const bool prefix = t < sequence.prefix_length;
      const int64_t row =
          prefix ? sequence.prefix_begin + t : sequence.begin + t - sequence.prefix_length;
      rows[static_cast<size_t>(i * group.length + t)] = row;
      if (prefix && !sequence.owns_prefix) continue;
      owned.push_back(i * group.length + t);
      owned_rows.push_back(row);
    }
  }
  const auto placed = [&](const std::vector<int64_t>& values) {
    return at::tensor(values, at::kLong).to(device);
  };
  group.rows = placed(rows);
  group.owned = placed(owned);
  group.owned_rows = placed(owned_rows);
  group.lengths = placed(lengths);
  return group;
}

}  // namespace

struct AttentionPlan {
  at::Device device;
  std::vector<Group> groups;
};

namespace {

/// All sequences in groups of about the same length, longest first.
std::vector<Group> make_groups(const PackedBatch& batch, at::Device device) {
  auto sequences = sequences_of(batch);
  std::stable_sort(sequences.begin(), sequences.end(),
                   [](const auto& a, const auto& b) { return a.total() > b.total(); });
  std::vector<Group> groups;
  for (size_t first = 0; first < sequences.size();) {
    const int64_t longest = sequences[first].total();
    size_t last = first + 1;
    while (last < sequences.size() &&
           static_cast<double>(sequences[last].total()) >=
               kLeastFill * static_cast<double>(longest) &&
           static_cast<int64_t>(last + 1 - first) * longest <= kMaxTokens)
      ++last;
    groups.push_back(make_group({sequences.data() + first, last - first}, device));
    first = last;
  }
  return groups;
}

/// The layers of a model ask for the same groups.
const std::vector<Group>& groups_of(const PackedBatch& batch, at::Device device) {
  auto& plan = batch.attention_plan;
  if (!plan || plan->device != device)
    plan = std::make_shared<AttentionPlan>(AttentionPlan{device, make_groups(batch, device)});
  return plan->groups;
}

/// What a query may see beyond "no later key": a window, or (not causal) the sequence's own tokens.
at::Tensor mask_of(const Group& group, const AttentionShape& shape, const at::Tensor& like) {
  const auto places = at::arange(group.length, like.options().dtype(at::kLong));
  if (!shape.causal)
    return places.unsqueeze(0)
        .lt(group.lengths.unsqueeze(1))
        .view({group.count, 1, 1, group.length});
  if (shape.sliding_window <= 0 || group.length <= shape.sliding_window) return {};
  const auto back = places.unsqueeze(1) - places.unsqueeze(0);
  return back.ge(0).logical_and(back.lt(shape.sliding_window));
}

/// [count, heads, length, head_dim] of columns [first, first + heads head_dim) of gathered rows.
at::Tensor heads_of(const at::Tensor& rows, const Group& group, int64_t first, int64_t heads,
                    int64_t head_dim) {
  return rows.narrow(1, first, heads * head_dim)
      .view({group.count, group.length, heads, head_dim})
      .transpose(1, 2);
}

at::Tensor attend(const at::Tensor& qkv_rows, const Group& group, const AttentionShape& shape) {
  const int64_t d = shape.head_dim;
  const auto q = heads_of(qkv_rows, group, 0, shape.num_heads, d);
  auto k = heads_of(qkv_rows, group, shape.num_heads * d, shape.num_kv_heads, d);
  auto v =
      heads_of(qkv_rows, group, (shape.num_heads + shape.num_kv_heads) * d, shape.num_kv_heads, d);
  const auto mask = mask_of(group, shape, qkv_rows);
  // The kernel for 16-bit values shares heads itself.
  const int64_t shared = shape.num_heads / shape.num_kv_heads;
  const bool in_kernel = shared > 1 && q.scalar_type() != at::kFloat && !mask.defined();
  if (shared > 1 && !in_kernel) {
    k = k.repeat_interleave(shared, 1);
    v = v.repeat_interleave(shared, 1);
  }
  const auto out = at::scaled_dot_product_attention(
      q, k, v, mask.defined() ? std::optional<at::Tensor>(mask) : std::nullopt, /*dropout_p=*/0.0,
      /*is_causal=*/!mask.defined(), /*scale=*/std::nullopt, in_kernel);
  return out.transpose(1, 2).reshape({group.count * group.length, shape.num_heads * d});
}

}  // namespace

at::Tensor attention_forward(const at::Tensor& qkv_NC, const PackedBatch& batch,
                             const AttentionShape& shape) {
  at::NoGradGuard no_grad;
  auto out = at::empty({qkv_NC.size(0), shape.num_heads * shape.head_dim}, qkv_NC.options());
  for (const auto& group : groups_of(batch, qkv_NC.device())) {
    const auto attended = attend(qkv_NC.index_select(0, group.rows), group, shape);
    out.index_copy_(0, group.owned_rows, attended.index_select(0, group.owned));
  }
  return out;
}

at::Tensor attention_backward(const at::Tensor& qkv_NC, const at::Tensor& d_out_NC,
                              const PackedBatch& batch, const AttentionShape& shape) {
  // float32: several sequences add to the keys of a prefix that they share.
  auto d_qkv = at::zeros(qkv_NC.sizes(), qkv_NC.options().dtype(at::kFloat));
  for (const auto& group : groups_of(batch, qkv_NC.device())) {
    const auto rows = qkv_NC.index_select(0, group.rows).detach().set_requires_grad(true);
    at::Tensor attended;
    {
      at::AutoGradMode with_gradient(true);
      attended = attend(rows, group, shape);
    }
    // Places that answer for no token pass no gradient on: copies of a prefix, and padding.
    const auto d_rows = at::zeros_like(attended).detach();
    d_rows.index_copy_(0, group.owned, d_out_NC.index_select(0, group.owned_rows));
    const auto gradient = torch::autograd::grad({attended}, {rows}, {d_rows})[0];
    d_qkv.index_put_({group.rows}, gradient.to(at::kFloat), /*accumulate=*/true);
  }
  return d_qkv.to(qkv_NC.scalar_type());
}

}  // namespace meed::device
