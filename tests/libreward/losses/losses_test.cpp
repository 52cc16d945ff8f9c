#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>

#include "libpolicy/core/error.h"
#include "libreward/losses/bradley_terry.h"
#include "libreward/losses/contrastive.h"
#include "libreward/losses/demonstrations.h"
#include "libreward/losses/mixture.h"
#include "libreward/losses/preference_embedding.h"
#include "libreward/losses/process.h"
#include "libreward/losses/regression.h"

// Worked values of the papers' equations, and every gradient against central differences.

namespace meed {
namespace {

at::Tensor doubles(const std::vector<double>& values) { return at::tensor(values, at::kDouble); }
double value(const LossOutput& output) { return output.loss.item<double>(); }

TEST(Preference, HasTheWorkedValues) {
  const auto of = [](double d) {
    return value(bradley_terry_loss(doubles({d}), doubles({0}), {}, 0, 1));
  };
  EXPECT_NEAR(of(0), 0.693147, 1e-6);
  EXPECT_NEAR(of(0.8), 0.371101, 1e-6);
  const auto strength = [](double m, const char* kind) {
    return value(strength_loss(doubles({0.8}), doubles({0}), doubles({m}), kind, 1));
  };
  EXPECT_NEAR(strength(2, "scaled"), 0.742201, 1e-6);
  EXPECT_NEAR(strength(3, "scaled"), 1.113302, 1e-6);
  EXPECT_NEAR(strength(1, "margin"), 0.798139, 1e-6);
  EXPECT_NEAR(strength(2, "margin"), 1.463282, 1e-6);
  EXPECT_NEAR(strength(3, "margin"), 2.305083, 1e-6);
  EXPECT_EQ(strength(1, "scaled"), strength(1, "regular"));
  EXPECT_EQ(value(soft_preference_loss(doubles({0.8}), doubles({0}), doubles({1}), 1)), of(0.8));
  EXPECT_NEAR(value(soft_preference_loss(doubles({0.8}), doubles({0}), doubles({0.25}), 1)),
              0.25 * of(0.8) + 0.75 * of(-0.8), 1e-12);
}

TEST(Preference, WrongLabelsAreSuspected) {
  const auto strength = preference_strength(doubles({-1, 0, 1, 3, -3, 2, 1, 3}).view({2, 4}));
  EXPECT_EQ(strength.mean_B[0].item<double>(), -2.0);
  const auto suspects = suspect_labels(strength.mean_B, 0.5);
  EXPECT_TRUE(suspects[0].item<bool>());
  EXPECT_EQ(suspects.sum().item<int64_t>(), 1);  // the second lowest is not below 0
  EXPECT_NEAR(doubles({-1}).sigmoid().item<double>(), 0.268941, 1e-6);
}

TEST(Regression, MissingLabelsDoNotCount) {
  const auto labels = doubles({4, kMissingLabel}).view({1, 2});
  const auto output =
      attribute_regression_loss(doubles({3, 4}).view({1, 2}), labels, count_labels(labels));
  EXPECT_EQ(value(output), 1.0);
  const auto none = doubles({kMissingLabel}).view({1, 1});
  EXPECT_THROW(attribute_regression_loss(doubles({3}).view({1, 1}), none, count_labels(none)),
               DataError);
}

TEST(Contrastive, MetaDifferenceHasTheWorkedValues) {
  EXPECT_NEAR(meta_difference(doubles({1, 1}).view({1, 2})).item<double>(), 0.25, 1e-12);
  EXPECT_LE(meta_difference(doubles({0, 100, 300}).view({1, 3})).item<double>(), 2.0 / 3 + 1e-12);
  EXPECT_GT(meta_difference(doubles({0, 2}).view({1, 2})).item<double>(), 0.25);
}

TEST(Contrastive, InfoNceTellsItsOwnPositive) {
  const auto features = at::eye(3, at::kDouble);
  const double wanted = std::log(std::exp(1 / 0.5) + 2) - 1 / 0.5;
  EXPECT_NEAR(value(info_nce_loss(features, features, 0.5, 3)), wanted, 1e-12);
  const auto codes = sinkhorn_codes(at::randn({8, 4}, at::kDouble), 200, 0.5);
  EXPECT_NEAR((codes.sum(1) - 1).abs().max().item<double>(), 0, 1e-9);
  EXPECT_NEAR((codes.sum(0) - 2).abs().max().item<double>(), 0, 1e-3);
}

TEST(Mixture, HasTheWorkedValues) {
  const auto log_gates = doubles({.5, .3, .2}).log().view({1, 3});
  const auto losses = doubles({.2, 1, 2}).view({1, 3});
  const auto near = [&](double tau, const std::vector<double>& wanted) {
    const auto target = mixture_target(log_gates, losses, tau);
    for (int64_t k = 0; k < 3; ++k)
      EXPECT_NEAR(target[0][k].item<double>(), wanted[static_cast<size_t>(k)], 1e-6) << tau;
  };
  near(1, {.748662, .201837, .049501});
  near(.1, {.999799, .000201, 0});
  near(1e9, {.5, .3, .2});
  // One head is Bradley-Terry; permuting heads with their gates changes nothing.
  EXPECT_NEAR(value(mixture_loss(doubles({0}).view({1, 1}), doubles({0.8}).view({1, 1}), 0.5, 1)),
              0.371101, 1e-6);
  const auto differences = doubles({1, -2, .5}).view({1, 3});
  const auto order = at::tensor({2, 0, 1}, at::kLong);
  EXPECT_NEAR(value(mixture_loss(log_gates, differences, .5, 1)),
              value(mixture_loss(log_gates.index_select(1, order),
                                 differences.index_select(1, order), .5, 1)),
              1e-12);
}

TEST(Mixture, AspectGatesSumToTheScale) {
  const auto aspect_of = at::tensor({0, 0, 1, 2, 2, 2}, at::kLong);
  const auto criteria = doubles({1, 2, 3, 4, 5, 6}).view({1, 6});
  const auto uniform = gated_aspects(criteria, at::zeros({1, 6}, at::kDouble),
                                     at::zeros({1, 3}, at::kDouble), aspect_of, 1, 1);
  EXPECT_NEAR(uniform.overall_B.item<double>(), (1.5 + 3 + 5) / 3, 1e-12);
  const auto random = gated_aspects(criteria, at::randn({1, 6}, at::kDouble),
                                    at::randn({1, 3}, at::kDouble), aspect_of, 10, 2);
  EXPECT_NEAR(random.criteria_gates_BC.sum().item<double>(), 3 * 2, 1e-9);
  EXPECT_NEAR(random.criteria_gates_BC[0][2].item<double>(), 2, 1e-12);
  EXPECT_NEAR(random.aspect_gates_BJ.sum().item<double>(), 2, 1e-12);
}

TEST(PreferenceEmbedding, TellsCycles) {
  const double h = std::sqrt(3.0) / 2;
  const auto scores = preference_scores(doubles({1, 0, -.5, h, -.5, -h}).view({3, 2}));
  EXPECT_NEAR(scores[0][1].item<double>(), 0.866025, 1e-6);
  EXPECT_NEAR(scores[1][2].item<double>(), 0.866025, 1e-6);
  EXPECT_NEAR(scores[2][0].item<double>(), 0.866025, 1e-6);
  EXPECT_EQ(scores[1][1].item<double>(), 0.0);
  EXPECT_EQ(scores[1][0].item<double>(), -scores[0][1].item<double>());
  EXPECT_NEAR((scores[0][1] / 0.1).sigmoid().item<double>(), 0.999827, 1e-6);
  const auto chosen = doubles({0.8, 1}).view({1, 2}), rejected = doubles({0, 1}).view({1, 2});
  EXPECT_NEAR(value(preference_embedding_loss(chosen, rejected, 1, 1)), 0.371101, 1e-6);
}

TEST(Process, HasTheWorkedValues) {
  const std::vector<double> p = {.9, .8, .95};
  EXPECT_EQ(aggregate_steps(p, "min"), .8);
  EXPECT_NEAR(aggregate_steps(p, "product"), .684, 1e-12);
  EXPECT_EQ(aggregate_steps(p, "last"), .95);
  EXPECT_NEAR(aggregate_steps(p, "mean"), .883333, 1e-6);
  EXPECT_NEAR(aggregate_steps(p, "geometric_mean"), .881087, 1e-6);
  EXPECT_EQ(labels_from_first_error(4, 3), (std::vector<double>{1, 1, 0, kMissingLabel}));
  EXPECT_EQ(labels_from_first_error(2, std::nullopt), (std::vector<double>{1, 1}));
  EXPECT_TRUE(consensus(3, 3));
  EXPECT_FALSE(consensus(3, std::nullopt));
  EXPECT_TRUE(consensus(std::nullopt, std::nullopt));
  EXPECT_EQ(first_error_of(std::vector<double>{.5, 0, .2}), 2);
  EXPECT_EQ(first_step_below(p, .85), 2);
  EXPECT_EQ(first_step_below(p, .8), std::nullopt);
  EXPECT_NEAR(harmonic_mean(.6, .9), .72, 1e-12);
  EXPECT_NEAR(harmonic_mean(.3, .99), .460465, 1e-6);
  EXPECT_EQ(harmonic_mean(0, 0), 0.0);
  using Place = std::optional<int64_t>;
  const std::vector<Place> labels = {1, 3, 2, 2, {}, {}}, predictions = {1, 3, 1, {}, {}, 4},
                           never(6);
  const auto scores = first_error_scores(labels, predictions);
  EXPECT_EQ(scores.accuracy_erroneous, 0.5);
  EXPECT_EQ(scores.accuracy_correct, 0.5);
  EXPECT_EQ(scores.f1, 0.5);
  EXPECT_EQ(scores.erroneous, 4);
  EXPECT_EQ(first_error_scores(labels, never).accuracy_correct, 1.0);
  EXPECT_EQ(first_error_scores(labels, never).f1, 0.0);
  EXPECT_NEAR(value(step_loss(doubles({0, 5}), doubles({1, kMissingLabel}), 1)), 0.693147, 1e-6);
}

TEST(Demonstrations, EqualDistributionsCostTwoLogTwo) {
  EXPECT_NEAR(value(adversarial_loss(doubles({0, 0}), doubles({0, 0, 0}), 2, 3)), 1.386294, 1e-6);
}

TEST(Demonstrations, MaximumEntropyMatchesFeatureExpectations) {
  // A grid of 5 x 5, five actions, two goals of different worth.
  constexpr int64_t kSide = 5, kStates = 25;
  auto transitions = at::zeros({kStates, 5, kStates}, at::kDouble);
  const int64_t moves[5][2] = {{0, 0}, {1, 0}, {-1, 0}, {0, 1}, {0, -1}};
  for (int64_t s = 0; s < kStates; ++s)
    for (int64_t a = 0; a < 5; ++a) {
      const int64_t x = std::clamp<int64_t>(s % kSide + moves[a][0], 0, kSide - 1);
      const int64_t y = std::clamp<int64_t>(s / kSide + moves[a][1], 0, kSide - 1);
      transitions[s][a][y * kSide + x] = 1.0;
    }
  auto features = at::zeros({kStates, 2}, at::kDouble);
  features[kStates - 1][0] = 1.0;
  features[kSide - 1][1] = 1.0;
  auto start = at::zeros({kStates}, at::kDouble);
  start[0] = 1.0;
  const MaxEntropyProblem problem{transitions, features, start, doubles({1.0, 0.5}), 12};
  const auto result = max_entropy_irl(problem, 0.3, 2000);
  EXPECT_LT(result.gap, 1e-2);
  EXPECT_GT(result.weights_F[0].item<double>(), result.weights_F[1].item<double>());
  EXPECT_LT(max_entropy_irl(problem, 100, 2000).gap, 1e-2);  // a rate that is far too high
}

TEST(RewardLosses, GradientsEqualCentralDifferences) {
  at::manual_seed(1);
  using Loss = std::function<at::Tensor(const at::Tensor&)>;
  const auto labels = at::where(at::rand({3, 4}, at::kDouble) > 0.3, at::randn({3, 4}, at::kDouble),
                                at::full({}, kMissingLabel, at::kDouble));
  const auto other = at::randn({3, 4}, at::kDouble);
  const auto strengths = doubles({1, 2, 3});
  const auto aspect_of = at::tensor({0, 0, 1, 1}, at::kLong);
  const auto first = [](const at::Tensor& x) { return x.select(1, 0); };
  const auto second = [](const at::Tensor& x) { return x.select(1, 1); };
  const std::vector<std::pair<const char*, Loss>> losses = {
      {"bradley_terry",
       [&](const at::Tensor& x) {
         return bradley_terry_loss(first(x), second(x), strengths, 0.1, 3).loss;
       }},
      {"scaled",
       [&](const at::Tensor& x) {
         return strength_loss(first(x), second(x), strengths, "scaled", 3).loss;
       }},
      {"soft",
       [&](const at::Tensor& x) {
         return soft_preference_loss(first(x), second(x), doubles({.1, .5, .9}), 3).loss;
       }},
      {"critique",
       [&](const at::Tensor& x) {
         return critique_score_loss(x.select(1, 2), first(x), second(x), 3, 3).loss;
       }},
      {"regression",
       [&](const at::Tensor& x) {
         return attribute_regression_loss(x, labels, count_labels(labels)).loss;
       }},
      {"verifier",
       [&](const at::Tensor& x) {
         return verifier_loss(first(x), doubles({0, 1, .3}), 3).loss;
       }},
      {"info_nce", [&](const at::Tensor& x) { return info_nce_loss(x, other, 0.3, 3).loss; }},
      {"meta", [&](const at::Tensor& x) { return meta_difference(x); }},
      {"mixture",
       [&](const at::Tensor& x) { return mixture_loss(x.log_softmax(1), other, 0.5, 3).loss; }},
      {"mixture heads",
       [&](const at::Tensor& x) { return mixture_loss(other.log_softmax(1), x, 0.5, 3).loss; }},
      {"router",
       [&](const at::Tensor& x) {
         return router_loss(x.log_softmax(1), other.softmax(1), 3).loss;
       }},
      {"embedding",
       [&](const at::Tensor& x) {
         return preference_embedding_loss(x, other, 0.5, 3, doubles({.4, 1.2})).loss;
       }},
      {"aspects",
       [&](const at::Tensor& x) {
         const auto a = gated_aspects(x, other, other.narrow(1, 0, 2), aspect_of, 1, 1);
         const auto b = gated_aspects(other, x, x.narrow(1, 0, 2), aspect_of, 2, 1);
         return aspect_loss(a, b, at::cat({x, other}), at::cat({labels, labels}),
                            at::tensor({1, -1, 0, 1, 1, 0}, at::kLong).view({3, 2}), 3)
             .loss;
       }},
      {"adversarial",
       [&](const at::Tensor& x) { return adversarial_loss(first(x), second(x), 3, 3).loss; }},
      {"steps",
       [&](const at::Tensor& x) {
         return step_loss(first(x), doubles({1, 0.4, kMissingLabel}), 2).loss;
       }},
  };
  for (const auto& [name, loss] : losses) {
    const auto x = at::randn({3, 4}, at::kDouble).requires_grad_();
    loss(x).backward();
    for (int64_t i = 0; i < x.numel(); ++i) {
      constexpr double kStep = 1e-6;
      auto up = x.detach().clone(), down = x.detach().clone();
      up.view(-1)[i] += kStep;
      down.view(-1)[i] -= kStep;
      EXPECT_NEAR(x.grad().view(-1)[i].item<double>(),
                  (loss(up).item<double>() - loss(down).item<double>()) / (2 * kStep), 1e-6)
          << name << " " << i;
    }
  }
  // SwAV's codes carry no gradient, so only its value is checked: a perfect match is cheap.
  const auto prototypes = at::eye(4, at::kDouble), rows = at::eye(4, at::kDouble);
  EXPECT_LT(value(swav_loss(rows, rows, prototypes, 0.1, 4)), 0.1);
}

}  // namespace
}  // namespace meed
