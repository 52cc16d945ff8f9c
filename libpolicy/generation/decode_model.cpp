#include "libpolicy/generation/decode_model.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>

#include <atomic>
#include <cmath>
#include <cstring>

#include "libpolicy/core/error.h"
#include "libpolicy/generation/decode_kernels.h"
#include "libpolicy/generation/packed_matrix.h"
#include "libpolicy/models/kernels.h"
#include "libpolicy/models/rope.h"

// The forward of M tokens, each of some sequence:
//
//   id -> embedding (+ learned position) -> residual (float32)
//   per layer:  residual -> norm -> [q|k|v] -> (q/k norm) -> rotation -> k, v into the cache
//               -> attention over the cache -> o -> + residual
//               residual -> norm -> [gate|up] -> activation -> down -> + residual
//   residual -> final norm -> hidden
//
// Values are rounded to the compute dtype T where the training forward rounds them.
namespace meed {
namespace {

using decode::Bf16;
using decode::Epilogue;
using decode::kPageTokens;

constexpr int64_t kRowGrain = 8;

/// y += scale * (x A^T) B^T on the outputs [first, first + B's rows).
struct PackedAdapter {
  PackedMatrix a, b;
  int64_t first = 0;
  float scale = 0;
};

/// Linear maps of one input, computed as one product.
struct PackedLinear {
  PackedMatrix weight;
  at::Tensor bias;
  std::vector<PackedAdapter> adapters;
};

struct PackedLayer {
  PackedLinear qkv, o, gate_up, down;
};

/// bfloat16 products take the inner dimension in pairs: a rank is padded with zeros.
at::Tensor pad_even(const at::Tensor& matrix, int64_t dim) {
  if (matrix.size(dim) % 2 == 0) return matrix;
  return dim == 0 ? at::constant_pad_nd(matrix, {0, 0, 0, 1}) : at::constant_pad_nd(matrix, {0, 1});
}

PackedLinear pack(const std::vector<const LinearWeights*>& parts, bool adapters) {
  PackedLinear packed;
  std::vector<at::Tensor> weights, biases;
  int64_t first = 0;
  bool any_bias = false;
  for (const auto* part : parts) {
    weights.push_back(part->weight);
    any_bias = any_bias || part->bias.defined();
    biases.push_back(part->bias.defined() ? part->bias.to(at::kFloat)
                                          : at::zeros({part->weight.size(0)}, at::kFloat));
    if (adapters && part->lora_a.defined()) {
      const auto dtype = part->weight.scalar_type();
      packed.adapters.push_back({.a = PackedMatrix({pad_even(part->lora_a.detach().to(dtype), 0)}),
                                 .b = PackedMatrix({pad_even(part->lora_b.detach().to(dtype), 1)}),
                                 .first = first,
                                 .scale = static_cast<float>(part->lora_scale)});
    }
    first += part->weight.size(0);
  }
  packed.weight = PackedMatrix(weights);
  if (any_bias) packed.bias = at::cat(biases).contiguous();
  return packed;
}

kernels::Activation activation_kind(const std::string& name) {
  if (name == "silu") return kernels::Activation::kSilu;
  if (name == "gelu") return kernels::Activation::kGelu;
  MEED_CHECK(name == "gelu_new", "unknown activation \"" + name + "\"");
  return kernels::Activation::kGeluTanh;
}

/// A buffer that keeps its memory from call to call.
class Workspace {
 public:
  template <typename T>
  T* get(int64_t count, at::ScalarType dtype) {
    if (!tensor_.defined() || tensor_.numel() < count)
      tensor_ = at::empty({count}, at::TensorOptions().dtype(dtype));
    return static_cast<T*>(tensor_.data_ptr());
  }
  at::Tensor view(int64_t rows, int64_t columns) const {
    return tensor_.narrow(0, 0, rows * columns).view({rows, columns});
  }

 private:
  at::Tensor tensor_;
};

template <typename T>
class PackedDecoder final : public DecodeModel {
 public:
  explicit PackedDecoder(const CausalLm& model)
      : config_(model.config()),
        weights_(model.weights()),
        shape_(kv_shape(model)),
        dtype_(model.dtype()) {
    const bool adapters = model.adapters_enabled();
    for (const auto& layer : weights_.layers) {
      std::vector<const LinearWeights*> up{&layer.up};
      if (config_.gated_mlp) up.insert(up.begin(), &layer.gate);
      layers_.push_back({.qkv = pack({&layer.q, &layer.k, &layer.v}, adapters),
                         .o = pack({&layer.o}, adapters),
                         .gate_up = pack(up, adapters),
                         .down = pack({&layer.down}, adapters)});
    }
    lm_head_ = PackedMatrix({weights_.lm_head});
    if (!config_.learned_positions) rotary_.set_frequencies(rotary_frequencies(config_));
  }

  at::Tensor forward(std::span<const DecodeToken> tokens) override {
    const auto M = static_cast<int64_t>(tokens.size());
    const int64_t D = config_.hidden_size;
    auto* residual = residual_.get<float>(M * D, at::kFloat);
    auto* normed = normed_.get<T>(M * D, dtype_);
    embed(tokens, residual);
    const auto rotary = rotary_.at(positions_of(tokens));
    for (size_t i = 0; i < layers_.size(); ++i) {
      const auto& weights = weights_.layers[i];
      normalise(weights.input_norm, residual, M, normed);
      attention_block(static_cast<int64_t>(i), tokens, rotary, normed, residual);
      normalise(weights.post_attention_norm, residual, M, normed);
      mlp_block(layers_[i], normed, M, residual);
    }
    normalise(weights_.final_norm, residual, M, normed);
    return normed_.view(M, D);
  }

  at::Tensor logits(const at::Tensor& hidden_MD) override {
    const int64_t M = hidden_MD.size(0), V = config_.vocab_size;
    const auto hidden = hidden_MD.contiguous();
    auto* out = logits_.get<float>(M * V, at::kFloat);
    lm_head_.multiply(static_cast<const T*>(hidden.const_data_ptr()), hidden.size(1), M, out, V, {},
                      rounds());
    return logits_.view(M, V);
  }

 private:
  static constexpr bool rounds() { return std::is_same_v<T, Bf16>; }

  static at::Tensor positions_of(std::span<const DecodeToken> tokens) {
    auto positions = at::empty({static_cast<int64_t>(tokens.size())}, at::kLong);
    auto* p = positions.data_ptr<int64_t>();
    for (size_t i = 0; i < tokens.size(); ++i) p[i] = tokens[i].position;
    return positions;
  }

  void embed(std::span<const DecodeToken> tokens, float* residual) const {
    const int64_t D = config_.hidden_size;
    const auto* table = static_cast<const T*>(weights_.embedding.const_data_ptr());
    const auto* positions =
        config_.learned_positions
            ? static_cast<const T*>(weights_.position_embedding.const_data_ptr())
            : nullptr;
    for (size_t i = 0; i < tokens.size(); ++i) {
      kernels::convert(table + tokens[i].id * D, D, 1.0f, residual + i * D);
      if (positions) kernels::accumulate(positions + tokens[i].position * D, D, residual + i * D);
    }
  }

  void normalise(const NormWeights& norm, const float* x, int64_t rows, T* y) {
    const int64_t D = config_.hidden_size;
    const kernels::NormArgs args{
        .weight = norm.weight.template const_data_ptr<float>(),
        .bias = norm.bias.defined() ? norm.bias.template const_data_ptr<float>() : nullptr,
        .D = static_cast<long>(D),
        .eps = static_cast<float>(config_.norm_eps),
        .center = config_.layer_norm};
    auto* rstd = rstd_.get<float>(rows, at::kFloat);
    at::parallel_for(0, rows, kRowGrain, [&](int64_t begin, int64_t end) {
      kernels::norm(x + begin * D, end - begin, args, static_cast<T*>(nullptr), rstd + begin,
                    y + begin * D);
    });
  }

  /// y (T) = linear(x), or y (float32) += linear(x) for the residual stream.
  template <typename Y>
  void apply(const PackedLinear& linear, const T* x, int64_t rows, Y* y, bool add) {
    const int64_t in = linear.weight.in_features(), out = linear.weight.out_features();
    const bool round = rounds() && std::is_same_v<Y, float>;
    const float* bias =
        linear.bias.defined() ? linear.bias.template const_data_ptr<float>() : nullptr;
    linear.weight.multiply(x, in, rows, y, out, {.bias = bias, .add = add}, round);
    for (const auto& adapter : linear.adapters) {
      const int64_t rank = adapter.a.out_features();
      auto* low = low_rank_.get<T>(rows * rank, dtype_);
      adapter.a.multiply(x, in, rows, low, rank);
      adapter.b.multiply(low, rank, rows, y + adapter.first, out,
                         {.scale = adapter.scale, .add = true}, round);
    }
  }

  void attention_block(int64_t layer, std::span<const DecodeToken> tokens,
                       const RotaryTables& rotary, const T* normed, float* residual) {
    const auto M = static_cast<int64_t>(tokens.size());
    const int64_t d = config_.head_dim,
                  columns = (config_.num_heads + 2 * config_.num_kv_heads) * d;
    auto* qkv = qkv_.get<T>(M * columns, dtype_);
    auto* attended = attended_.get<T>(M * config_.num_heads * d, dtype_);
    apply(layers_[layer].qkv, normed, M, qkv, /*add=*/false);
    at::parallel_for(0, M, kRowGrain, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i)
        place_token(layer, tokens[i], rotary, i, qkv + i * columns);
    });
    // Tokens of a group stand together: for one head they read the shared prefix out of the
    // processor's cache.
    const int64_t tasks = M * config_.num_kv_heads;
    const int64_t run = std::max<int64_t>(1, tasks / (at::get_num_threads() * 8));
    std::atomic<int64_t> next{0};
    at::parallel_for(0, std::min<int64_t>(tasks, at::get_num_threads()), 1, [&](int64_t, int64_t) {
      std::vector<float> scores, sums;
      for (int64_t begin = next.fetch_add(run); begin < tasks; begin = next.fetch_add(run))
        for (int64_t task = begin; task < std::min(begin + run, tasks); ++task) {
          const int64_t head = task / M, i = task % M;
          attend(layer, head, tokens[i], qkv + i * columns, attended + i * config_.num_heads * d,
                 scores, sums);
        }
    });
    apply(layers_[layer].o, attended, M, residual, /*add=*/true);
  }

  /// Norms and rotates a token's queries and keys in place, puts keys and values into the cache.
  void place_token(int64_t layer, const DecodeToken& token, const RotaryTables& rotary, int64_t row,
                   T* qkv) const {
    const int64_t d = config_.head_dim, H = config_.num_heads, K = config_.num_kv_heads;
    if (config_.qk_norm) {
      norm_heads(weights_.layers[layer].q_norm, qkv, H);
      norm_heads(weights_.layers[layer].k_norm, qkv + H * d, K);
    }
    if (rotary.cosine.defined())
      kernels::rope(qkv, 1, (H + 2 * K) * d, H + K, d / 2,
                    rotary.cosine.const_data_ptr<float>() + row * (d / 2),
                    rotary.sine.const_data_ptr<float>() + row * (d / 2), 1.0f);
    const int64_t index = token.position - token.cache.prefix_length, slot = index % kPageTokens;
    auto* page = static_cast<T*>(token.cache.own->page(index / kPageTokens));
    for (int64_t h = 0; h < K; ++h) {
      T* keys = page + shape_.offset(layer, h);
      const T* k = qkv + (H + h) * d;
      for (int64_t j = 0; j < d; ++j) keys[decode::panel_index(keys, j, slot, kPageTokens)] = k[j];
      std::memcpy(keys + shape_.block() + slot * d, qkv + (H + K + h) * d, d * sizeof(T));
    }
  }

  void norm_heads(const NormWeights& norm, T* heads, int64_t count) const {
    const int64_t d = config_.head_dim;
    const kernels::NormArgs args{.weight = norm.weight.template const_data_ptr<float>(),
                                 .bias = nullptr,
                                 .D = static_cast<long>(d),
                                 .eps = static_cast<float>(config_.norm_eps),
                                 .center = false};
    std::vector<float> values(count * d), rstd(count);
    for (int64_t i = 0; i < count; ++i) convert_to_float(heads + i * d, d, values.data() + i * d);
    kernels::norm(values.data(), count, args, static_cast<T*>(nullptr), rstd.data(), heads);
  }
  static void convert_to_float(const T* x, int64_t n, float* y) { kernels::convert(x, n, 1.0f, y); }

  /// Calls body(page, first token's position, tokens) for each page with tokens that a query at
  /// `position` sees.
  template <typename Body>
  static void for_each_page(const DecodeToken& token, int64_t first, const Body& body) {
    const auto& cache = token.cache;
    const auto walk = [&](const KvSegment& segment, int64_t start, int64_t end) {
      for (int64_t at = start + std::max<int64_t>(0, first - start) / kPageTokens * kPageTokens;
           at < end; at += kPageTokens)
        body(static_cast<const T*>(segment.page((at - start) / kPageTokens)), at,
             std::min(kPageTokens + 0L, end - at));
    };
    if (cache.prefix) walk(*cache.prefix, 0, cache.prefix_length);
    walk(*cache.own, cache.prefix_length, token.position + 1);
  }

  /// Attention of the query heads that share one key/value head.
  void attend(int64_t layer, int64_t kv_head, const DecodeToken& token, const T* qkv, T* out,
              std::vector<float>& scores, std::vector<float>& sums) const {
    const int64_t d = config_.head_dim, rows = config_.num_heads / config_.num_kv_heads;
    const int64_t length = token.position + 1;
    const int64_t window = config_.window_of(layer);
    const int64_t first = window > 0 ? std::max<int64_t>(0, length - window) : 0;
    const int64_t stride = length + kPageTokens;  // the last page's scores are written whole
    if (static_cast<int64_t>(scores.size()) < rows * stride) scores.resize(rows * stride * 2);
    sums.assign(rows * d, 0.0f);
    const int64_t offset = shape_.offset(layer, kv_head);
    const T* q = qkv + kv_head * rows * d;
    const float scale = 1.0f / std::sqrt(static_cast<float>(d));
    // A later page overwrites what an earlier, partly filled one wrote beyond its tokens.
    for_each_page(token, first, [&](const T* page, int64_t at, int64_t) {
      decode::page_scores(q, d, rows, page + offset, d, scale, scores.data() + at, stride);
    });
    std::vector<float>& totals = sums;
    totals.resize(rows * d + rows);
    for (int64_t r = 0; r < rows; ++r)
      totals[rows * d + r] = decode::softmax(scores.data() + r * stride + first, length - first);
    for_each_page(token, first, [&](const T* page, int64_t at, int64_t count) {
      const int64_t skip = std::max<int64_t>(0, first - at);
      if (skip >= count) return;
      decode::page_values(scores.data() + at + skip, stride, rows,
                          page + offset + shape_.block() + skip * d, count - skip, d, sums.data());
    });
    for (int64_t r = 0; r < rows; ++r)
      kernels::convert(sums.data() + r * d, d, 1.0f / totals[rows * d + r],
                       out + (kv_head * rows + r) * d);
  }

  void mlp_block(const PackedLayer& layer, const T* normed, int64_t rows, float* residual) {
    const int64_t F = config_.intermediate_size, width = config_.gated_mlp ? 2 * F : F;
    auto* in = mlp_in_.get<T>(rows * width, dtype_);
    auto* activated = activated_.get<T>(rows * F, dtype_);
    const auto kind = activation_kind(config_.activation);
    apply(layer.gate_up, normed, rows, in, /*add=*/false);
    at::parallel_for(0, rows, 1, [&](int64_t begin, int64_t end) {
      kernels::activate(in + begin * width, end - begin, F, config_.gated_mlp, kind,
                        activated + begin * F);
    });
    apply(layer.down, activated, rows, residual, /*add=*/true);
  }

  const ModelConfig& config_;
  const DecoderWeights& weights_;
  const KvShape shape_;
  const at::ScalarType dtype_;
  std::vector<PackedLayer> layers_;
  PackedMatrix lm_head_;
  RotaryCache rotary_;
  Workspace residual_, normed_, rstd_, qkv_, attended_, mlp_in_, activated_, low_rank_, logits_;
};

void check_shapes(const ModelConfig& config) {
  if (config.head_dim % 2 != 0 || config.hidden_size % 2 != 0 || config.intermediate_size % 2 != 0)
    throw DataError(
        "generation needs even hidden_size, intermediate_size and head_dim; the model has " +
        std::to_string(config.hidden_size) + ", " + std::to_string(config.intermediate_size) +
        ", " + std::to_string(config.head_dim));
}

}  // namespace

KvShape DecodeModel::kv_shape(const CausalLm& model) {
  const auto& config = model.config();
  return {.num_layers = config.num_layers,
          .num_kv_heads = config.num_kv_heads,
          .head_dim = config.head_dim,
          .dtype = model.dtype()};
}

std::unique_ptr<DecodeModel> DecodeModel::create(const CausalLm& model) {
  at::NoGradGuard no_grad;
  MEED_CHECK(model.weights().lm_head.defined(), "generation needs a language-model head");
  check_shapes(model.config());
  if (model.dtype() == at::kFloat) return std::make_unique<PackedDecoder<float>>(model);
  return std::make_unique<PackedDecoder<Bf16>>(model);
}

}  // namespace meed
