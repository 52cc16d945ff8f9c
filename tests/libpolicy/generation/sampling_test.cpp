#include "libpolicy/generation/sampling.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "libpolicy/core/error.h"
#include "libpolicy/core/random.h"

namespace meed {
namespace {

std::vector<float> random_logits(size_t n, uint64_t seed, double spread) {
  std::vector<float> logits(n);
  for (size_t i = 0; i < n; ++i)
    logits[i] = static_cast<float>(spread * std::sqrt(-2.0 * std::log(1.0 - uniform(seed, 2 * i))) *
                                   std::cos(2 * M_PI * uniform(seed, 2 * i + 1)));
  return logits;
}

/// transformers' processors one after the other, in double, by sorting everything.
std::vector<double> reference_probabilities(const std::vector<float>& logits,
                                            const SamplingParams& p,
                                            const std::vector<int64_t>& seen,
                                            const std::vector<int64_t>& forbidden) {
  const double minus = -std::numeric_limits<double>::infinity();
  std::vector<double> x(logits.begin(), logits.end());
  for (const int64_t id : seen)
    x[id] = x[id] < 0 ? x[id] * p.repetition_penalty : x[id] / p.repetition_penalty;
  for (const int64_t id : forbidden) x[id] = minus;
  for (auto& v : x) v /= p.temperature;
  const auto softmax = [&] {
    const double max = *std::max_element(x.begin(), x.end());
    std::vector<double> q;
    double total = 0;
    for (const double v : x) total += q.emplace_back(std::exp(v - max));
    for (auto& v : q) v /= total;
    return q;
  };
  if (p.top_k > 0) {
    auto sorted = x;
    std::sort(sorted.rbegin(), sorted.rend());
    const double kth = sorted[std::min<size_t>(p.top_k, x.size()) - 1];
    for (auto& v : x)
      if (v < kth) v = minus;
  }
  if (p.top_p < 1.0) {
    const auto q = softmax();
    std::vector<size_t> order(x.size());
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return x[a] < x[b]; });
    double cumulative = 0;
    for (size_t i = 0; i + 1 < order.size(); ++i) {
      cumulative += q[order[i]];
      if (cumulative <= 1.0 - p.top_p) x[order[i]] = minus;
    }
  }
  if (p.min_p > 0) {
    const auto q = softmax();
    const double top = *std::max_element(q.begin(), q.end());
    for (size_t i = 0; i < x.size(); ++i)
      if (q[i] < p.min_p * top) x[i] = minus;
  }
  return softmax();
}

double full_logprob(const std::vector<float>& logits, double temperature, int64_t id) {
  const double max = *std::max_element(logits.begin(), logits.end());
  double total = 0;
  for (const float v : logits) total += std::exp((v - max) / temperature);
  return (logits[id] - max) / temperature - std::log(total);
}

/// Draws often and compares the frequencies (chi-square) and both log-probabilities with the
/// reference.
void expect_agrees(const SamplingParams& params, size_t vocabulary, double spread,
                   const std::vector<int64_t>& seen = {},
                   const std::vector<int64_t>& forbidden = {}) {
  const auto logits = random_logits(vocabulary, 11, spread);
  const auto expected = reference_probabilities(logits, params, seen, forbidden);
  constexpr int kDraws = 6000;
  std::vector<int> counts(vocabulary);
  TokenSampler sampler;
  for (int t = 0; t < kDraws; ++t) {
    const auto token = sampler.sample({.logits_V = logits,
                                       .params = &params,
                                       .seed = 5,
                                       .draw = t,
                                       .prompt_ids = seen,
                                       .completion_ids = {},
                                       .forbidden_ids = forbidden});
    ++counts[token.id];
    ASSERT_GT(expected[token.id], 0.0) << "a token that should be cut off: " << token.id;
    ASSERT_NEAR(token.sampling_logprob, std::log(expected[token.id]), 1e-4);
    ASSERT_NEAR(token.logprob, full_logprob(logits, params.temperature, token.id), 1e-4);
  }
  double chi_square = 0, rest_expected = 0, rest_seen = 0;
  int cells = -1;
  for (size_t i = 0; i < vocabulary; ++i) {
    const double e = expected[i] * kDraws;
    if (e < 8) {
      rest_expected += e;
      rest_seen += counts[i];
      continue;
    }
    chi_square += (counts[i] - e) * (counts[i] - e) / e;
    ++cells;
  }
  if (rest_expected >= 8) {
    chi_square += (rest_seen - rest_expected) * (rest_seen - rest_expected) / rest_expected;
    ++cells;
  }
  // Mean k, variance 2k: 4.5 standard deviations.
  EXPECT_LT(chi_square, cells + 4.5 * std::sqrt(2.0 * std::max(cells, 1)) + 3)
      << cells << " degrees of freedom";
}

TEST(Sampling, PlainDrawsFollowTheSoftmax) {
  expect_agrees({}, 50, 1.0);
  expect_agrees({}, 5003, 3.0);  // several blocks and a ragged end
}
TEST(Sampling, Temperature) {
  expect_agrees({.temperature = 0.3}, 300, 2.0);
  expect_agrees({.temperature = 2.5}, 300, 2.0);
}
TEST(Sampling, TopK) {
  expect_agrees({.top_k = 1}, 300, 2.0);
  expect_agrees({.top_k = 7}, 300, 2.0);
  expect_agrees({.temperature = 0.7, .top_k = 250}, 300, 2.0);
  expect_agrees({.top_k = 1000}, 300, 2.0);
}
TEST(Sampling, TopP) {
  for (const double p : {1e-6, 0.3, 0.9, 0.999}) expect_agrees({.top_p = p}, 300, 2.0);
}
TEST(Sampling, MinP) {
  for (const double p : {0.01, 0.2, 1.0}) expect_agrees({.min_p = p}, 300, 2.0);
}
TEST(Sampling, AllInTheOrderOfTransformers) {
  expect_agrees(
      {.temperature = 1.3, .top_p = 0.8, .min_p = 0.05, .top_k = 40, .repetition_penalty = 1.7},
      300, 2.0, {3, 14, 15, 92, 65, 35}, {1, 2});
}
TEST(Sampling, RepetitionPenaltyAndForbiddenTokens) {
  expect_agrees({.repetition_penalty = 1.5}, 60, 2.0, {0, 1, 2, 3, 4, 5, 6, 7, 8, 9});
  expect_agrees({}, 20, 1.0, {}, {0, 3, 19});
}

SampledToken draw(TokenSampler& sampler, const std::vector<float>& logits,
                  const SamplingParams& params, int64_t t = 0, uint64_t seed = 1) {
  return sampler.sample({.logits_V = logits,
                         .params = &params,
                         .seed = seed,
                         .draw = t,
                         .prompt_ids = {},
                         .completion_ids = {},
                         .forbidden_ids = {}});
}

TEST(Sampling, TiesOfTheKthTokenStay) {
  const std::vector<float> logits{1, 5, 4, 4, 4, 0};
  std::vector<int> counts(logits.size());
  TokenSampler sampler;
  for (int t = 0; t < 2000; ++t) ++counts[draw(sampler, logits, {.top_k = 2}, t).id];
  for (const int tied : {2, 3, 4}) EXPECT_GT(counts[tied], 100);
  EXPECT_EQ(counts[0] + counts[5], 0);
}

TEST(Sampling, TopPKeepsTheLaterOfEqualTokens) {
  TokenSampler sampler;
  for (int t = 0; t < 200; ++t) EXPECT_GE(draw(sampler, {2, 2, 2, 2}, {.top_p = 0.5}, t).id, 2);
}

TEST(Sampling, GreedyTakesTheFirstOfTheLargest) {
  auto logits = random_logits(100, 3, 1.0);
  logits[40] = logits[77] = 9.0f;
  TokenSampler sampler;
  const auto token = draw(sampler, logits, {.temperature = 0.0});
  EXPECT_EQ(token.id, 40);
  EXPECT_NEAR(token.logprob, full_logprob(logits, 1.0, 40), 1e-5);
}

TEST(Sampling, DrawsDependOnSeedAndCounterOnly) {
  const auto logits = random_logits(1000, 3, 1.0);
  TokenSampler a, b;
  for (int t = 0; t < 50; ++t) {
    draw(b, logits, {}, t, 10);
    EXPECT_EQ(draw(a, logits, {}, t, 9).id, draw(b, logits, {}, t, 9).id);
  }
}

TEST(Sampling, TruncationThatRemovesNothingDrawsTheSame) {
  const auto logits = random_logits(3000, 3, 1.0);
  TokenSampler sampler;
  for (int t = 0; t < 200; ++t)
    EXPECT_EQ(draw(sampler, logits, {}, t).id, draw(sampler, logits, {.min_p = 1e-30}, t).id);
}

TEST(Sampling, MinusInfinityIsNeverDrawn) {
  std::vector<float> logits(100, -std::numeric_limits<float>::infinity());
  logits[17] = 0.5f;
  TokenSampler sampler;
  for (int t = 0; t < 50; ++t) {
    EXPECT_EQ(draw(sampler, logits, {}, t).id, 17);
    EXPECT_EQ(draw(sampler, logits, {.top_p = 0.9, .top_k = 10}, t).id, 17);
  }
}

TEST(Sampling, NotFiniteLogitsAreRefused) {
  TokenSampler sampler;
  for (const float bad :
       {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()})
    for (const size_t place : {0u, 31u, 32u, 36u}) {
      auto logits = random_logits(37, 3, 1.0);
      logits[place] = bad;
      EXPECT_THROW(draw(sampler, logits, {}), TokenSampler::NotFinite);
    }
  EXPECT_THROW(draw(sampler, std::vector<float>(37, -std::numeric_limits<float>::infinity()), {}),
               TokenSampler::NotFinite);
}

TEST(Sampling, WrongParametersAreNamed) {
  const auto message = [](const SamplingParams& params) -> std::string {
    try {
      check_sampling_params(params, "request 3");
    } catch (const ConfigError& e) {
      return e.what();
    }
    return "";
  };
  EXPECT_EQ(message({}), "");
  EXPECT_NE(message({.temperature = -1}).find("request 3: temperature"), std::string::npos);
  EXPECT_NE(message({.top_p = 0}).find("top_p"), std::string::npos);
  EXPECT_NE(message({.min_p = 1.5}).find("min_p"), std::string::npos);
  EXPECT_NE(message({.top_k = -1}).find("top_k"), std::string::npos);
  EXPECT_NE(message({.repetition_penalty = 0}).find("repetition_penalty"), std::string::npos);
  EXPECT_NE(message({.max_new_tokens = 0}).find("max_new_tokens"), std::string::npos);
  EXPECT_NE(message({.stop_strings = {""}}).find("stop string"), std::string::npos);
}

}  // namespace
}  // namespace meed
