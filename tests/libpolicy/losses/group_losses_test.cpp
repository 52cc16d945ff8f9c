#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

#include "libpolicy/distributed/communicator.h"
#include "libpolicy/losses/advantages.h"
#include "libpolicy/losses/covariance_selection.h"
#include "libpolicy/losses/gpo.h"
#include "libpolicy/losses/policy_gradient.h"
#include "libpolicy/losses/steerlm.h"

// Losses and advantages that see a whole group or a whole update.

namespace meed {
namespace {

at::Tensor doubles(std::vector<double> values) { return at::tensor(values, at::kDouble); }

std::unique_ptr<Communicator> alone() { return Communicator::create({}, at::kCPU, "single"); }

void expect_close(const at::Tensor& a, const at::Tensor& b, double tolerance = 1e-6) {
  ASSERT_EQ(a.sizes(), b.sizes());
  EXPECT_LE((a.to(at::kDouble) - b.to(at::kDouble)).abs().max().item<double>(), tolerance)
      << a << b;
}

/// Largest difference of the gradient from central differences.
template <typename Loss>
double gradient_error(const std::vector<double>& at_values, const Loss& loss) {
  auto values = doubles(at_values).requires_grad_();
  loss(values).backward();
  const auto gradient = values.grad().clone();
  double worst = 0.0;
  constexpr double kStep = 1e-5;
  for (size_t i = 0; i < at_values.size(); ++i) {
    auto up = at_values, down = at_values;
    up[i] += kStep;
    down[i] -= kStep;
    const double slope =
        (loss(doubles(up)).template item<double>() - loss(doubles(down)).template item<double>()) /
        (2 * kStep);
    worst = std::max(worst, std::abs(slope - gradient[static_cast<int64_t>(i)].item<double>()));
  }
  return worst;
}

TEST(Gpo, ScoresOfAnAntisymmetricTableSumToZeroAndAreCentredRewards) {
  const auto rewards = doubles({1.0, -2.0, 0.5, 3.0});
  const auto table = rewards.unsqueeze(1) - rewards.unsqueeze(0);
  expect_close(mean_preference_scores(table), rewards - rewards.mean());
  const auto cycle = doubles({0, 1, -1, -1, 0, 1, 1, -1, 0}).view({3, 3});
  expect_close(mean_preference_scores(cycle), at::zeros({3}, at::kDouble));
}

TEST(Gpo, LossIsTheSquaredDistanceOfTheLogRatioToTheScaledScore) {
  const auto output = gpo_loss(at::tensor({-1.0f, -2.0f}), at::tensor({-1.5f, -1.0f}),
                               at::tensor({0.2f, -0.3f}), {}, /*beta=*/0.5, /*num_completions=*/2);
  // (0.5 - 0.4)^2 and (-1 + 0.6)^2
  EXPECT_NEAR(output.loss.item<double>(), (0.01 + 0.16) / 2, 1e-6);
  const auto log_z = at::tensor({0.1f, 0.1f});
  const auto shifted = gpo_loss(at::tensor({-1.0f, -2.0f}), at::tensor({-1.5f, -1.0f}),
                                at::tensor({0.2f, -0.3f}), log_z, 0.5, 2);
  EXPECT_NEAR(shifted.loss.item<double>(), (0.04 + 0.09) / 2, 1e-6);
}

TEST(Gpo, ACycleLeavesTheUniformPolicyWhereItIs) {
  auto logprobs = at::full({3}, std::log(1.0 / 3.0)).requires_grad_();
  const auto scores = at::zeros({3});
  gpo_loss(logprobs, logprobs.detach(), scores, {}, 1e-3, 3).loss.backward();
  EXPECT_EQ(logprobs.grad().abs().max().item<float>(), 0.0f);
}

TEST(Gpo, GradientIsThatOfCentralDifferences) {
  EXPECT_LT(gradient_error({-1.0, -0.5, -2.0},
                           [](const at::Tensor& logprobs) {
                             return gpo_loss(logprobs, doubles({-1.2, -0.4, -1.0}),
                                             doubles({0.1, 0.3, -0.4}), {}, 0.7, 3)
                                 .loss;
                           }),
            1e-8);
}

SteerSample worked_sample() {
  return {.log_likelihoods_n = doubles({0.7, 0.2, 0.1}).log(),
          .prior_logprobs_n = doubles({0.2, 0.3, 0.5}).log(),
          .old_logprobs_n = doubles({0.3, 0.3, 0.4}).log(),
          .logprobs_n = doubles({0.3, 0.3, 0.4}).log()};
}

TEST(SteerLm, WeightsAreTheWorkedOnes) {
  const auto [wanted, current] = steer_weights(worked_sample());
  expect_close(wanted, doubles({0.589474, 0.252632, 0.157895}), 1e-6);
  expect_close(current, at::full({3}, 1.0 / 3.0, at::kDouble));
  auto sample = worked_sample();
  sample.logprobs_n.requires_grad_();
  steerlm_loss(sample, 1, 1).loss.backward();
  expect_close(sample.logprobs_n.grad(), -doubles({0.256140, -0.080702, -0.175439}), 1e-6);
  EXPECT_NEAR(sample.logprobs_n.grad().sum().item<double>(), 0.0, 1e-12);
}

TEST(SteerLm, NothingMovesWhereThePolicyIsWhatIsWanted) {
  auto sample = worked_sample();
  sample.logprobs_n =
      (sample.log_likelihoods_n + sample.prior_logprobs_n + 0.3).detach().requires_grad_();
  const auto output = steerlm_loss(sample, 1, 1);
  output.loss.backward();
  EXPECT_LT(sample.logprobs_n.grad().abs().max().item<double>(), 1e-12);
  EXPECT_NEAR(output.metrics.at("steerlm/kl").sum, 0.0, 1e-12);
}

TEST(SteerLm, LossIsTheGradientOfTheDistance) {
  // d KL(w || b) / d log Q = b - w, the loss's own gradient.
  const auto sample = worked_sample();
  const auto wanted = steer_weights(sample).wanted_n;
  auto logprobs = doubles({-1.0, -0.7, -2.0}).requires_grad_();
  const auto log_b = (logprobs - sample.old_logprobs_n).log_softmax(0);
  (wanted * (wanted.log() - log_b)).sum().backward();
  auto own = sample;
  own.logprobs_n = logprobs.detach().clone().requires_grad_();
  steerlm_loss(own, 1, 1).loss.backward();
  expect_close(own.logprobs_n.grad(), logprobs.grad(), 1e-12);
}

TEST(Advantages, PopulationAndSampleDeviation) {
  const auto comm = alone();
  const auto rewards = doubles({1, 0, 0, 1, 1, 0, 0, 0}).view({1, 8});
  const auto sample = group_advantages(rewards, "group", *comm);
  EXPECT_NEAR(sample[0][0].item<double>(), 1.207615, 5e-4);  // 1e-4 is added to the deviation
  const auto population = group_advantages(rewards, "group", *comm, /*population=*/true);
  EXPECT_NEAR(population[0][0].item<double>(), 1.290994, 5e-4);
  EXPECT_NEAR(population[0][1].item<double>(), -0.774597, 5e-4);
}

TEST(Advantages, SeveralRewardsNormalisedOneByOne) {
  const auto comm = alone();
  const double nan = std::nan("");
  const std::vector<WeightedRewards> rewards = {
      {doubles({1, 0, 0, 0, 2, 4, 6, 8}).view({2, 4}), 1.0},
      {doubles({0, 0, 10, 10, nan, nan, nan, nan}).view({2, 4}), 0.5}};
  const auto each = [&](size_t k, int64_t p) {
    const auto row = rewards[k].rewards_PG[p];
    return (row - row.mean()) / (row.std() + 1e-4);
  };
  const auto sums = at::stack({each(0, 0) + 0.5 * each(1, 0), each(0, 1)});
  expect_close(multi_objective_advantages("sum_of_advantages", rewards, "group", *comm), sums,
               1e-5);
  expect_close(multi_objective_advantages("normalize_then_sum", rewards, "group", *comm),
               (sums - sums.mean()) / (sums.std() + 1e-4), 1e-5);
}

TEST(Advantages, OneRewardSummedIsGroupAdvantages) {
  const auto comm = alone();
  const auto rewards = doubles({1, 0, 0.5, 0, 2, 4, 6, 8}).view({2, 4});
  expect_close(multi_objective_advantages("sum_of_advantages", {{rewards, 1.0}}, "batch", *comm),
               group_advantages(rewards, "batch", *comm));
}

TEST(Advantages, ProcessSupervisionSumsTheStepsThatAreLeft) {
  const auto comm = alone();
  const double nan = std::nan("");
  // Mean 0.4; centred (.6, -.4, .6) and (-.4, -.4); sums from each step to the last.
  const std::vector<std::vector<std::vector<double>>> steps = {{{1, 0, 1}, {0, 0}, {}},
                                                               {{2, nan, 2}, {2}}};
  const auto plain = process_advantages(steps, "none", *comm);
  const std::vector<double> first = {.8, .2, .6}, second = {-.8, -.4};
  for (size_t s = 0; s < 3; ++s) EXPECT_NEAR(plain[0][0][s], first[s], 1e-12);
  for (size_t s = 0; s < 2; ++s) EXPECT_NEAR(plain[0][1][s], second[s], 1e-12);
  EXPECT_TRUE(plain[0][2].empty());
  EXPECT_EQ(plain[1][0], (std::vector<double>{0, 0, 0}));  // equal rewards; an unknown one is none
  // The five rewards have variance 1.2 / 4, or 1.2 / 5 with ddof 0.
  EXPECT_NEAR(process_advantages(steps, "group", *comm)[0][0][0], .8 / (std::sqrt(.3) + 1e-4),
              1e-9);
  EXPECT_NEAR(process_advantages(steps, "group", *comm, true)[0][0][0],
              .8 / (std::sqrt(.24) + 1e-4), 1e-9);
  // All eight known rewards: mean 1, squares 0 + 1 + 0 + 1 + 1 + 1 + 1 + 1 over 7.
  EXPECT_NEAR(process_advantages(steps, "batch", *comm)[0][1][0], -.8 / (std::sqrt(6. / 7.) + 1e-4),
              1e-9);
}

TEST(PolicyGradient, ACompletionThatDoesNotCountHasNoClipShare) {
  PolicyGradientInputs in;
  in.logprobs_M = at::tensor({-3.0f, -3.0f, -1.0f});
  in.old_logprobs_M = at::tensor({-1.0f, -1.0f, -1.0f});
  in.mask_M = at::tensor({1.0f, 1.0f, 0.0f});
  in.completion_M = at::tensor({0, 0, 1}, at::kLong);
  in.advantages_C = at::tensor({-1.0f, -1.0f});
  const auto output =
      policy_gradient_loss(in, {.loss_type = "grpo"}, {.num_tokens = 2, .num_completions = 2});
  EXPECT_EQ(output.metrics.at("clip_ratio/low_min").sum, 1.0);
}

TEST(PolicyGradient, SequenceSumIsTheProductOfRatios) {
  PolicyGradientInputs in;
  in.logprobs_M = at::tensor({-0.9f, -1.1f, -0.5f}).requires_grad_();
  in.old_logprobs_M = at::tensor({-1.0f, -1.0f, -0.6f});
  in.mask_M = at::ones({3});
  in.completion_M = at::tensor({0, 0, 1}, at::kLong);
  in.advantages_C = at::tensor({2.0f, -1.0f});
  const auto output =
      policy_gradient_loss(in, {.loss_type = "grpo", .importance_sampling_level = "sequence_sum"},
                           {.num_tokens = 3, .num_completions = 2});
  // Ratios exp(0) and exp(0.1), mean over completions.
  EXPECT_NEAR(output.loss.item<double>(), (-2.0 + std::exp(0.1)) / 2, 1e-6);
}

CovarianceTokens tokens_of(int64_t count) {
  const auto index = at::arange(count, at::kLong);
  return {.logprobs_M = -((index * 37) % 11).to(at::kFloat) / 3.0,
          .old_logprobs_M = -((index * 37) % 11).to(at::kFloat) / 3.0,
          .advantages_M = ((index * 17) % 7).to(at::kFloat) - 3.0,
          .mask_M = (index % 5 != 0).to(at::kFloat),
          .keys_M = index};
}

TEST(CovarianceSelection, DoesNotDependOnTheOrderOfTheTokens) {
  const auto tokens = tokens_of(60);
  const auto order = at::arange(59, -1, -1, at::kLong);
  const CovarianceTokens turned{.logprobs_M = tokens.logprobs_M.index_select(0, order),
                                .old_logprobs_M = tokens.old_logprobs_M.index_select(0, order),
                                .advantages_M = tokens.advantages_M.index_select(0, order),
                                .mask_M = tokens.mask_M.index_select(0, order),
                                .keys_M = tokens.keys_M.index_select(0, order)};
  for (const std::string type : {"clip_cov", "kl_cov"}) {
    PolicyGradientOptions options{
        .loss_type = type, .clip_cov_ratio = 0.1, .clip_cov_low = 0.5, .kl_cov_ratio = 0.1};
    const auto chosen = covariance_selection(options, tokens);
    expect_close(covariance_selection(options, turned).index_select(0, order), chosen);
    EXPECT_EQ((chosen * (1 - tokens.mask_M)).sum().item<double>(), 0.0) << type;
    EXPECT_GE(chosen.sum().item<double>(), 1.0) << type;
  }
  PolicyGradientOptions options{
      .loss_type = "clip_cov", .clip_cov_ratio = 0.1, .clip_cov_low = 0.5};
  const auto one = covariance_selection(options, tokens);
  EXPECT_EQ(one.sum().item<double>(), 4.0);  // a tenth of 48 tokens
  options.seed = 5;
  EXPECT_GT((covariance_selection(options, tokens) - one).abs().sum().item<double>(), 0.0);
}

TEST(CovarianceSelection, NoTokensGiveNone) {
  const auto none = covariance_selection({.loss_type = "kl_cov"}, tokens_of(0));
  EXPECT_EQ(none.numel(), 0);
}

}  // namespace
}  // namespace meed
