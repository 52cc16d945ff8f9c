#include "libpolicy/models/attention.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>

#include <algorithm>
#include <atomic>
#include <cmath>

#include "libpolicy/core/error.h"
#include "libpolicy/models/device_ops.h"
#include "libpolicy/models/gemm.h"
#include "libpolicy/models/kernels.h"

// A task is one key/value head of one family: a segment without prefix together with the segments
// that name it as theirs. Keys and values of a task are gathered once as float32; the queries of
// all heads that share them go through in blocks, so a score matrix is [rows * heads, keys].
namespace meed {
namespace {

constexpr int64_t kQueryRows = 64;  // queries a block and head: scores stay in the L2 cache

struct Segment {
  int64_t begin, length;
};

struct Family {
  Segment root;
  std::vector<Segment> children;
};

std::vector<Family> families_of(const PackedBatch& batch) {
  std::vector<Family> families;
  std::vector<int64_t> family_of(batch.prefixes.size(), -1);
  for (size_t s = 0; s < batch.prefixes.size(); ++s) {
    const Segment segment{batch.cu_seqlens[s], batch.cu_seqlens[s + 1] - batch.cu_seqlens[s]};
    if (batch.prefixes[s] >= 0) {
      families[family_of[batch.prefixes[s]]].children.push_back(segment);
      continue;
    }
    family_of[s] = static_cast<int64_t>(families.size());
    families.push_back({segment, {}});
  }
  return families;
}

/// Runs task(0 .. count - 1) on the threads of the pool, each taking the next that is free.
template <typename Task>
void run_tasks(int64_t count, const Task& task) {
  std::atomic<int64_t> next{0};
  at::parallel_for(0, std::min<int64_t>(count, at::get_num_threads()), 1, [&](int64_t, int64_t) {
    const SerialGemm serial;
    for (int64_t i = next++; i < count; i = next++) task(i);
  });
}

struct Keys {
  int64_t first, last;  // visible range of one query
};

// Geometry of one (family, kv head) task and the float32 copies it works on.
template <typename T>
class Task {
 public:
  Task(const AttentionShape& shape, int64_t kv_head)
      : shape_(shape),
        kv_head_(kv_head),
        heads_(shape.num_heads / shape.num_kv_heads),
        d_(shape.head_dim),
        stride_((shape.num_heads + 2 * shape.num_kv_heads) * shape.head_dim),
        out_stride_(shape.num_heads * shape.head_dim),
        scale_(1.0f / std::sqrt(static_cast<float>(shape.head_dim))) {}

  void reserve(const Family& family) {
    int64_t longest_child = 0, queries = family.root.length;
    for (const auto& child : family.children) {
      longest_child = std::max(longest_child, child.length);
      queries = std::max(queries, child.length);
    }
    const int64_t capacity = family.root.length + longest_child;
    const int64_t rows = std::min(queries, kQueryRows) * heads_;
    keys_.resize(capacity * d_);
    values_.resize(capacity * d_);
    queries_.resize(rows * d_);
    scores_.resize(rows * capacity);
    sums_.resize(rows);
  }

  void load_keys(const T* qkv, const Segment& segment, int64_t at) {
    for (int64_t t = 0; t < segment.length; ++t) {
      const T* row = qkv + (segment.begin + t) * stride_ + (shape_.num_heads + kv_head_) * d_;
      kernels::convert(row, d_, 1.0f, keys_.data() + (at + t) * d_);
      kernels::convert(row + shape_.num_kv_heads * d_, d_, 1.0f, values_.data() + (at + t) * d_);
    }
  }

  // Row (t, h) of a block is t * heads_ + h.
  void gather(const T* source, int64_t stride, int64_t token, int64_t count, float scale,
              float* to) const {
    for (int64_t t = 0; t < count; ++t)
      kernels::convert(source + (token + t) * stride + kv_head_ * heads_ * d_, heads_ * d_, scale,
                       to + t * heads_ * d_);
  }

  // Keys seen by the query at `position` of its sequence, whose end is at `length`.
  Keys visible(int64_t position, int64_t length) const {
    if (!shape_.causal) return {0, length};
    const int64_t first =
        shape_.sliding_window > 0 ? std::max<int64_t>(0, position + 1 - shape_.sliding_window) : 0;
    return {first, position + 1};
  }

  void forward(const T* qkv, const Segment& segment, int64_t prefix, T* out, float* lse) {
    const int64_t length = prefix + segment.length;
    for (int64_t t = 0; t < segment.length; t += kQueryRows) {
      const int64_t count = std::min(kQueryRows, segment.length - t);
      const Keys keys = block_keys(prefix + t, count, length);
      const int64_t n = keys.last - keys.first;
      gather(qkv, stride_, segment.begin + t, count, scale_, queries_.data());
      sgemm_nt(count * heads_, n, d_, queries_.data(), d_, keys_.data() + keys.first * d_, d_, 0.0f,
               scores_.data(), n);
      for (int64_t r = 0; r < count * heads_; ++r) {
        const Keys seen = visible(prefix + t + r / heads_, length);
        const auto row = kernels::softmax_row(scores_.data() + r * n, seen.first - keys.first,
                                              seen.last - keys.first, n);
        sums_[r] = row.sum;
        if (lse) lse[lse_index(segment.begin + t, r)] = row.lse;
      }
      sgemm_nn(count * heads_, d_, n, scores_.data(), n, values_.data() + keys.first * d_, d_, 0.0f,
               queries_.data(), d_);
      for (int64_t r = 0; r < count * heads_; ++r)
        kernels::convert(queries_.data() + r * d_, d_, 1.0f / sums_[r],
                         out + (segment.begin + t + r / heads_) * out_stride_ +
                             (kv_head_ * heads_ + r % heads_) * d_);
    }
  }

  void reserve_gradients() {
    d_keys_.resize(keys_.size());
    d_values_.resize(keys_.size());
    d_queries_.resize(queries_.size());
    d_out_.resize(queries_.size());
    d_scores_.resize(scores_.size());
  }

  void zero_key_gradients(int64_t at, int64_t count) {
    std::fill_n(d_keys_.begin() + at * d_, count * d_, 0.0f);
    std::fill_n(d_values_.begin() + at * d_, count * d_, 0.0f);
  }

  void store_key_gradients(const Segment& segment, int64_t at, T* d_qkv) const {
    for (int64_t t = 0; t < segment.length; ++t) {
      T* row = d_qkv + (segment.begin + t) * stride_ + (shape_.num_heads + kv_head_) * d_;
      kernels::convert(d_keys_.data() + (at + t) * d_, d_, 1.0f, row);
      kernels::convert(d_values_.data() + (at + t) * d_, d_, 1.0f, row + shape_.num_kv_heads * d_);
    }
  }

  // P = exp(S - lse); dV += P' dO; dP = dO V'; dS = P (dP - rowsum(dO O)); dQ = dS K; dK += dS' Q.
  void backward(const T* qkv, const T* out, const float* lse, const T* d_out,
                const Segment& segment, int64_t prefix, T* d_qkv) {
    const int64_t length = prefix + segment.length;
    for (int64_t t = 0; t < segment.length; t += kQueryRows) {
      const int64_t count = std::min(kQueryRows, segment.length - t);
      const int64_t M = count * heads_;
      const Keys keys = block_keys(prefix + t, count, length);
      const int64_t n = keys.last - keys.first;
      float* const k = keys_.data() + keys.first * d_;
      float* const v = values_.data() + keys.first * d_;
      gather(qkv, stride_, segment.begin + t, count, scale_, queries_.data());
      gather(d_out, out_stride_, segment.begin + t, count, 1.0f, d_out_.data());
      sgemm_nt(M, n, d_, queries_.data(), d_, k, d_, 0.0f, scores_.data(), n);
      sgemm_nt(M, n, d_, d_out_.data(), d_, v, d_, 0.0f, d_scores_.data(), n);
      for (int64_t r = 0; r < M; ++r) {
        const Keys seen = visible(prefix + t + r / heads_, length);
        kernels::probabilities_row(scores_.data() + r * n, seen.first - keys.first,
                                   seen.last - keys.first, n, lse[lse_index(segment.begin + t, r)]);
        const int64_t at =
            (segment.begin + t + r / heads_) * out_stride_ + (kv_head_ * heads_ + r % heads_) * d_;
        kernels::score_gradient_row(scores_.data() + r * n, d_scores_.data() + r * n, n,
                                    kernels::dot(out + at, d_out + at, d_));
      }
      sgemm_tn(n, d_, M, scores_.data(), n, d_out_.data(), d_, 1.0f,
               d_values_.data() + keys.first * d_, d_);
      sgemm_tn(n, d_, M, d_scores_.data(), n, queries_.data(), d_, 1.0f,
               d_keys_.data() + keys.first * d_, d_);
      sgemm_nn(M, d_, n, d_scores_.data(), n, k, d_, 0.0f, d_queries_.data(), d_);
      for (int64_t i = 0; i < count; ++i)
        kernels::convert(d_queries_.data() + i * heads_ * d_, heads_ * d_, scale_,
                         d_qkv + (segment.begin + t + i) * stride_ + kv_head_ * heads_ * d_);
    }
  }

 private:
  // Keys that any of `count` queries from `position` on sees.
  Keys block_keys(int64_t position, int64_t count, int64_t length) const {
    return {visible(position, length).first, visible(position + count - 1, length).last};
  }
  int64_t lse_index(int64_t token, int64_t row) const {
    return (token + row / heads_) * shape_.num_heads + kv_head_ * heads_ + row % heads_;
  }

  const AttentionShape shape_;
  const int64_t kv_head_, heads_, d_, stride_, out_stride_;
  const float scale_;
  std::vector<float> keys_, values_, queries_, scores_, sums_;
  std::vector<float> d_keys_, d_values_, d_queries_, d_out_, d_scores_;
};

template <typename T>
void forward_all(const T* qkv, const PackedBatch& batch, const AttentionShape& shape, T* out,
                 float* lse) {
  const auto families = families_of(batch);
  const int64_t kv = shape.num_kv_heads;
  run_tasks(static_cast<int64_t>(families.size()) * kv, [&](int64_t i) {
    const Family& family = families[i / kv];
    Task<T> task(shape, i % kv);
    task.reserve(family);
    task.load_keys(qkv, family.root, 0);
    task.forward(qkv, family.root, 0, out, lse);
    for (const auto& child : family.children) {
      task.load_keys(qkv, child, family.root.length);
      task.forward(qkv, child, family.root.length, out, lse);
    }
  });
}

template <typename T>
void backward_all(const T* qkv, const T* out, const float* lse, const T* d_out,
                  const PackedBatch& batch, const AttentionShape& shape, T* d_qkv) {
  const auto families = families_of(batch);
  const int64_t kv = shape.num_kv_heads;
  run_tasks(static_cast<int64_t>(families.size()) * kv, [&](int64_t i) {
    const Family& family = families[i / kv];
    const int64_t root_length = family.root.length;
    Task<T> task(shape, i % kv);
    task.reserve(family);
    task.reserve_gradients();
    task.load_keys(qkv, family.root, 0);
    task.zero_key_gradients(0, root_length);
    task.backward(qkv, out, lse, d_out, family.root, 0, d_qkv);
    for (const auto& child : family.children) {
      task.load_keys(qkv, child, root_length);
      task.zero_key_gradients(root_length, child.length);
      task.backward(qkv, out, lse, d_out, child, root_length, d_qkv);
      task.store_key_gradients(child, root_length, d_qkv);
    }
    task.store_key_gradients(family.root, 0, d_qkv);
  });
}

kernels::Bf16* bf16_data(const at::Tensor& tensor) {
  return static_cast<kernels::Bf16*>(tensor.data_ptr());
}

}  // namespace

at::Tensor attention_forward(const at::Tensor& qkv_NC, const PackedBatch& batch,
                             const AttentionShape& shape, const at::Tensor& lse_NH) {
  MEED_CHECK(qkv_NC.is_contiguous(), "attention needs contiguous rows");
  if (!qkv_NC.is_cpu()) return device::attention_forward(qkv_NC, batch, shape);
  const auto out = at::empty({qkv_NC.size(0), shape.num_heads * shape.head_dim}, qkv_NC.options());
  float* lse = lse_NH.defined() ? lse_NH.data_ptr<float>() : nullptr;
  if (qkv_NC.scalar_type() == at::kFloat)
    forward_all(qkv_NC.data_ptr<float>(), batch, shape, out.data_ptr<float>(), lse);
  else
    forward_all<kernels::Bf16>(bf16_data(qkv_NC), batch, shape, bf16_data(out), lse);
  return out;
}

at::Tensor attention_backward(const at::Tensor& qkv_NC, const at::Tensor& out_NC,
                              const at::Tensor& lse_NH, const at::Tensor& d_out_NC,
                              const PackedBatch& batch, const AttentionShape& shape) {
  MEED_CHECK(d_out_NC.is_contiguous(), "attention needs contiguous rows");
  if (!qkv_NC.is_cpu()) return device::attention_backward(qkv_NC, d_out_NC, batch, shape);
  const auto d_qkv = at::empty_like(qkv_NC);
  const float* lse = lse_NH.data_ptr<float>();
  if (qkv_NC.scalar_type() == at::kFloat)
    backward_all(qkv_NC.data_ptr<float>(), out_NC.data_ptr<float>(), lse,
                 d_out_NC.data_ptr<float>(), batch, shape, d_qkv.data_ptr<float>());
  else
    backward_all<kernels::Bf16>(bf16_data(qkv_NC), bf16_data(out_NC), lse, bf16_data(d_out_NC),
                                batch, shape, bf16_data(d_qkv));
  return d_qkv;
}

}  // namespace meed
