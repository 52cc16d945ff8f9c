#include "libpolicy/generation/sampling.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <unordered_set>

#include "libpolicy/core/error.h"
#include "libpolicy/core/random.h"
#include "libpolicy/generation/decode_kernels.h"

namespace meed {
namespace {

constexpr size_t kBlock =
    2048;  // logits whose weights are summed together, to find the drawn token again
constexpr float kInfinity = std::numeric_limits<float>::infinity();

// Candidates are looked for within these distances of the largest logit, in units of the
// temperature.
constexpr float kDistances[] = {4.0f, 8.0f, 16.0f, 40.0f, kInfinity};

bool truncates(const SamplingParams& params) {
  return params.top_k > 0 || params.top_p < 1.0 || params.min_p > 0.0;
}

float finite_maximum(std::span<const float> logits) {
  const auto row = decode::row_maximum(logits.data(), static_cast<long>(logits.size()));
  if (row.nan) throw TokenSampler::NotFinite();
  return row.max;
}

}  // namespace

bool alters_distribution(const SamplingParams& params) {
  if (params.temperature == 0.0) return false;
  return truncates(params) || params.repetition_penalty != 1.0 ||
         (params.min_new_tokens > 0 && !params.ignore_eos);
}

void check_sampling_params(const SamplingParams& params, const std::string& where) {
  const auto require = [&](bool ok, const char* what, double value) {
    if (!ok) throw ConfigError(where + ": " + what + ", got " + std::to_string(value));
  };
  const auto count = [](int64_t value) { return static_cast<double>(value); };
  require(params.temperature >= 0.0 && std::isfinite(params.temperature),
          "temperature must be 0 (greedy) or positive", params.temperature);
  require(params.top_p > 0.0 && params.top_p <= 1.0, "top_p must be in (0, 1]", params.top_p);
  require(params.min_p >= 0.0 && params.min_p <= 1.0, "min_p must be in [0, 1]", params.min_p);
  require(params.top_k >= 0, "top_k must not be negative", count(params.top_k));
  require(params.repetition_penalty > 0.0 && std::isfinite(params.repetition_penalty),
          "repetition_penalty must be positive", params.repetition_penalty);
  require(params.max_new_tokens > 0, "max_new_tokens must be positive",
          count(params.max_new_tokens));
  require(params.min_new_tokens >= 0, "min_new_tokens must not be negative",
          count(params.min_new_tokens));
  for (const auto& stop : params.stop_strings)
    if (stop.empty()) throw ConfigError(where + ": a stop string is empty");
}

SampledToken TokenSampler::sample(const SamplingInput& input) {
  const auto& params = *input.params;
  const bool greedy = params.temperature == 0.0;
  const float scale = greedy ? 1.0f : static_cast<float>(1.0 / params.temperature);
  const float raw_max = finite_maximum(input.logits_V);
  const auto logits = processed(input);
  const bool changed = logits.data() != input.logits_V.data();
  const float max = changed ? finite_maximum(logits) : raw_max;

  SampledToken token;
  const auto logprob_over_all = [&](std::span<const float> row, float row_max) {
    const double total = decode::exp_sum(row.data(), static_cast<long>(row.size()), row_max, scale);
    return static_cast<float>(static_cast<double>(row[token.id] - row_max) * scale -
                              std::log(total));
  };
  if (greedy) {
    token.id = std::find(logits.begin(), logits.end(), max) - logits.begin();
    token.logprob = token.sampling_logprob = logprob_over_all(input.logits_V, raw_max);
    return token;
  }
  const double u = uniform(input.seed, static_cast<uint64_t>(input.draw));
  if (!truncates(params)) {
    token.id = draw_from_all(logits, max, scale, u);
    double total = 0;
    for (const double block : blocks_) total += block;
    token.sampling_logprob =
        static_cast<float>(static_cast<double>(logits[token.id] - max) * scale - std::log(total));
    token.logprob = changed ? logprob_over_all(input.logits_V, raw_max) : token.sampling_logprob;
    return token;
  }

  const bool top_k = params.top_k > 0 && params.top_k < static_cast<int64_t>(logits.size());
  if (top_k) keep_top_k(logits, max, scale, params.top_k);
  if (params.top_p < 1.0) keep_top_p(logits, max, scale, params.top_p, top_k);
  if (!top_k && params.top_p >= 1.0)
    collect(logits, params.min_p > 0.0
                        ? max + static_cast<float>((std::log(params.min_p) - 1e-3) / scale)
                        : -kInfinity);
  if (params.min_p > 0.0)
    std::erase_if(candidates_, [&](const Candidate& c) {
      return std::exp(static_cast<double>(c.logit - max) * scale) < params.min_p;
    });
  // By id, so that a truncation that removes nothing draws what no truncation draws.
  std::sort(candidates_.begin(), candidates_.end(),
            [](const auto& a, const auto& b) { return a.id < b.id; });
  double total = 0;
  for (const auto& c : candidates_) total += std::exp(static_cast<double>(c.logit - max) * scale);
  double sum = 0;
  const Candidate* drawn = nullptr;
  for (const auto& c : candidates_) {
    const double weight = std::exp(static_cast<double>(c.logit - max) * scale);
    if (weight > 0) drawn = &c;
    sum += weight;
    if (sum > u * total) break;
  }
  token.id = drawn->id;
  token.sampling_logprob =
      static_cast<float>(static_cast<double>(drawn->logit - max) * scale - std::log(total));
  token.logprob = logprob_over_all(input.logits_V, raw_max);
  return token;
}

/// The logits after repetition penalty and forbidden tokens: a copy, or the input itself.
std::span<const float> TokenSampler::processed(const SamplingInput& input) {
  const double penalty = input.params->repetition_penalty;
  if (penalty == 1.0 && input.forbidden_ids.empty()) return input.logits_V;
  logits_.assign(input.logits_V.begin(), input.logits_V.end());
  if (penalty != 1.0) {
    std::unordered_set<int64_t> seen(input.prompt_ids.begin(), input.prompt_ids.end());
    seen.insert(input.completion_ids.begin(), input.completion_ids.end());
    for (const int64_t id : seen) {
      const auto factor = static_cast<float>(penalty);
      logits_[id] = logits_[id] < 0 ? logits_[id] * factor : logits_[id] / factor;
    }
  }
  for (const int64_t id : input.forbidden_ids)
    if (id >= 0 && id < static_cast<int64_t>(logits_.size())) logits_[id] = -kInfinity;
  return logits_;
}

int64_t TokenSampler::draw_from_all(std::span<const float> logits, float max, float scale,
                                    double u) {
  const size_t n = logits.size();
  blocks_.clear();
  double total = 0;
  for (size_t begin = 0; begin < n; begin += kBlock) {
    blocks_.push_back(decode::exp_sum(logits.data() + begin,
                                      static_cast<long>(std::min(kBlock, n - begin)), max, scale));
    total += blocks_.back();
  }
  double rest = u * total;
  size_t block = 0, last_with_weight = 0;
  for (; block < blocks_.size(); ++block) {
    if (blocks_[block] > 0) last_with_weight = block;
    if (rest < blocks_[block]) break;
    rest -= blocks_[block];
  }
  if (block == blocks_.size()) {  // rounding at the very end
    block = last_with_weight;
    rest = blocks_[block];
  }
  const size_t begin = block * kBlock, count = std::min(kBlock, n - begin);
  weights_.resize(kBlock);
  decode::exp_row(logits.data() + begin, static_cast<long>(count), max, scale, weights_.data());
  size_t drawn = 0;
  double sum = 0;
  for (size_t i = 0; i < count; ++i) {
    if (weights_[i] > 0) drawn = i;
    sum += weights_[i];
    if (sum > rest) break;
  }
  return static_cast<int64_t>(begin + drawn);
}

void TokenSampler::collect(std::span<const float> logits, float threshold) {
  candidates_.clear();
  for (size_t i = 0; i < logits.size(); ++i)
    if (logits[i] >= threshold) candidates_.push_back({logits[i], static_cast<int64_t>(i)});
}

void TokenSampler::keep_top_k(std::span<const float> logits, float max, float scale, int64_t k) {
  for (const float distance : kDistances) {
    collect(logits, max - distance / scale);
    if (static_cast<int64_t>(candidates_.size()) >= k) break;
  }
  const auto larger = [](const Candidate& a, const Candidate& b) { return a.logit > b.logit; };
  std::nth_element(candidates_.begin(), candidates_.begin() + (k - 1), candidates_.end(), larger);
  const float kth = candidates_[k - 1].logit;
  std::erase_if(candidates_, [&](const Candidate& c) { return c.logit < kth; });
}

/// Removes a token if the tokens more likely than it reach p already. `from_candidates`: top-k came
/// before, and p is a share of what it left.
void TokenSampler::keep_top_p(std::span<const float> logits, float max, float scale, double p,
                              bool from_candidates) {
  const auto weight = [&](const Candidate& c) {
    return std::exp(static_cast<double>(c.logit - max) * scale);
  };
  const auto mass = [&] {
    double sum = 0;
    for (const auto& c : candidates_) sum += weight(c);
    return sum;
  };
  double total = 0;
  if (from_candidates) {
    total = mass();
  } else {
    total = decode::exp_sum(logits.data(), static_cast<long>(logits.size()), max, scale);
    for (const float distance : kDistances) {
      collect(logits, max - distance / scale);
      if (mass() > p * total) break;
    }
  }
  // Equals: transformers' stable ascending sort removes the lower id first.
  std::sort(candidates_.begin(), candidates_.end(), [](const auto& a, const auto& b) {
    return a.logit != b.logit ? a.logit > b.logit : a.id > b.id;
  });
  double before = 0;
  size_t kept = 0;
  while (kept < candidates_.size() && (kept == 0 || before < p * total))
    before += weight(candidates_[kept++]);
  candidates_.resize(kept);
}

}  // namespace meed
