#include "libreward/curation/text_encoder.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cctype>
#include <cmath>
#include <numeric>

#include "libpolicy/core/random.h"
#include "libpolicy/models/encoder_lm.h"
#include "libpolicy/text/tokenizer.h"

namespace meed {
namespace {

constexpr int64_t kHashSize = 512;
constexpr double kSmallestNorm = 1e-12;

at::Tensor unit_rows(const at::Tensor& rows_ND) {
  return rows_ND / rows_ND.norm(2, {1}, /*keepdim=*/true).clamp_min(kSmallestNorm);
}

std::vector<std::string> words_of(const std::string& text) {
  std::vector<std::string> words;
  std::string word;
  for (const char c : text + " ") {
    const auto byte = static_cast<unsigned char>(c);
    if (std::isalnum(byte) || byte >= 0x80) {
      word += static_cast<char>(std::tolower(byte));
    } else if (!word.empty()) {
      words.push_back(std::move(word));
      word.clear();
    }
  }
  return words;
}

class HashedNgrams final : public TextEncoder {
 public:
  at::Tensor embed(std::span<const std::string> texts) override {
    auto counts = at::zeros({static_cast<int64_t>(texts.size()), kHashSize});
    for (size_t i = 0; i < texts.size(); ++i) {
      auto* row = counts.mutable_data_ptr<float>() + static_cast<int64_t>(i) * kHashSize;
      const auto add = [&](std::string_view piece, float weight) {
        uint64_t hash = piece.size();
        for (const char c : piece)
          hash = mix_seed({hash, static_cast<uint64_t>(static_cast<unsigned char>(c))});
        row[hash % kHashSize] += weight;
      };
      for (const auto& word : words_of(texts[i])) {
        add(word, 1.0f);
        // Three letters in a row weigh less than the word: a slip of spelling stays near.
        const auto padded = "^" + word + "$";
        for (size_t at = 0; at + 3 <= padded.size(); ++at)
          add(std::string_view(padded).substr(at, 3), 0.5f);
      }
    }
    return unit_rows(counts);
  }
};

class SentenceEncoder final : public TextEncoder {
 public:
  explicit SentenceEncoder(const std::string& path)
      : tokenizer_(Tokenizer::load(path)), encoder_(EncoderLm::load(path)) {}

  at::Tensor embed(std::span<const std::string> texts) override {
    at::NoGradGuard no_grad;
    constexpr size_t kBatch = 32;
    const auto limit = static_cast<size_t>(encoder_->config().max_positions);
    std::vector<at::Tensor> parts = {at::zeros({0, encoder_->config().hidden_size})};
    for (size_t first = 0; first < texts.size(); first += kBatch) {
      PackedBatchBuilder builder;
      for (size_t i = first; i < std::min(first + kBatch, texts.size()); ++i) {
        auto ids =
            tokenizer_->encode(texts[i], {.parse_special = false, .add_special_tokens = true});
        if (ids.size() > limit)
          ids.erase(ids.begin() + static_cast<std::ptrdiff_t>(limit) - 1, ids.end() - 1);
        builder.add(ids);
      }
      parts.push_back(embed_segments(*encoder_, builder.build()));
    }
    return at::cat(parts);
  }

 private:
  std::unique_ptr<Tokenizer> tokenizer_;
  std::unique_ptr<EncoderLm> encoder_;
};

}  // namespace

std::unique_ptr<TextEncoder> TextEncoder::create(const std::string& name) {
  if (name == "hashed_ngrams") return std::make_unique<HashedNgrams>();
  return std::make_unique<SentenceEncoder>(name);
}

at::Tensor principal_plane(const at::Tensor& points_ND) {
  const auto points = points_ND.to(at::kDouble);
  const int64_t N = points.size(0), D = points.size(1);
  auto plane_N2 = at::zeros({N, 2}, at::kDouble);
  if (N < 2) return plane_N2;
  const auto centred = points - points.mean(/*dim=*/0, /*keepdim=*/true);
  // Few points of many numbers: the components come from the N x N products.
  const auto [values, vectors] = at::linalg_eigh(at::matmul(centred, centred.t()));
  for (int64_t k = 0; k < std::min<int64_t>({2, N, D}); ++k) {
    const double value = values[N - 1 - k].item<double>();
    if (value <= kSmallestNorm) continue;
    auto scores_N = vectors.select(1, N - 1 - k) * std::sqrt(value);
    const auto loadings_D = at::matmul(centred.t(), scores_N);
    const auto largest = loadings_D.abs().argmax().item<int64_t>();
    if (loadings_D[largest].item<double>() < 0) scores_N = -scores_N;
    plane_N2.select(1, k).copy_(scores_N);
  }
  return plane_N2;
}

std::vector<int64_t> convex_hull(const at::Tensor& points_N2) {
  const auto points = points_N2.to(at::kDouble).contiguous();
  const auto* xy = points.const_data_ptr<double>();
  std::vector<int64_t> order(static_cast<size_t>(points.size(0)));
  std::iota(order.begin(), order.end(), int64_t{0});
  const auto x = [&](int64_t i) { return xy[2 * i]; };
  const auto y = [&](int64_t i) { return xy[2 * i + 1]; };
  std::sort(order.begin(), order.end(), [&](int64_t a, int64_t b) {
    return x(a) != x(b) ? x(a) < x(b) : y(a) != y(b) ? y(a) < y(b) : a < b;
  });
  order.erase(std::unique(order.begin(), order.end(),
                          [&](int64_t a, int64_t b) { return x(a) == x(b) && y(a) == y(b); }),
              order.end());
  if (order.size() < 3) return order;
  // Andrew's monotone chain: lower half forth, upper half back.
  std::vector<int64_t> hull;
  const auto turns_right_or_not = [&](int64_t c) {
    const auto a = hull[hull.size() - 2], b = hull.back();
    return (x(b) - x(a)) * (y(c) - y(a)) - (y(b) - y(a)) * (x(c) - x(a)) <= 0;
  };
  const auto walk = [&](auto begin, auto end, size_t keep) {
    for (auto it = begin; it != end; ++it) {
      while (hull.size() >= keep + 2 && turns_right_or_not(*it)) hull.pop_back();
      hull.push_back(*it);
    }
  };
  walk(order.begin(), order.end(), 0);
  const size_t lower = hull.size() - 1;
  walk(order.rbegin() + 1, order.rend(), lower);
  hull.pop_back();
  return hull;
}

}  // namespace meed
