#include "libpolicy/losses/reference_free.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

namespace meed {
namespace {

struct Pairs {
  at::Tensor chosen = at::tensor({-4.0, -6.0}, at::kDouble).requires_grad_();
  at::Tensor rejected = at::tensor({-9.0, -5.0}, at::kDouble).requires_grad_();
  at::Tensor chosen_lengths = at::tensor({4.0, 3.0}, at::kDouble);
  at::Tensor rejected_lengths = at::tensor({5.0, 4.0}, at::kDouble);
  DpoTotals totals{.num_pairs = 2, .num_chosen_tokens = 7};
  ReferenceFreeInputs in() const { return {chosen, rejected, chosen_lengths, rejected_lengths}; }
};

double softplus(double x) { return std::log1p(std::exp(x)); }

TEST(ReferenceFree, CpoAndSimpoEqualTheirFormulas) {
  const Pairs p;
  const double nll = 10.0 / 7.0;
  EXPECT_NEAR(cpo_loss(p.in(), {.beta = 0.2, .cpo_alpha = 1.0}, p.totals).loss.item<double>(),
              (softplus(-0.2 * 5) + softplus(0.2)) / 2 + nll, 1e-9);
  EXPECT_NEAR(
      cpo_loss(p.in(), {.loss_type = "simpo", .beta = 2.0, .simpo_gamma = 0.5, .cpo_alpha = 0.0},
               p.totals)
          .loss.item<double>(),
      (softplus(-2.0 * (-1.0 + 1.8) + 0.5) + softplus(-2.0 * (-2.0 + 1.25) + 0.5)) / 2, 1e-9);
}

TEST(ReferenceFree, OrpoEqualsItsFormula) {
  const Pairs p;
  const auto odds = [](double x) { return x - std::log1p(-std::exp(x)); };
  const double a = odds(-1.0) - odds(-1.8), b = odds(-2.0) - odds(-1.25);
  EXPECT_NEAR(orpo_loss(p.in(), 0.1, p.totals).loss.item<double>(),
              10.0 / 7.0 + 0.1 * (softplus(-a) + softplus(-b)) / 2, 1e-9);
}

TEST(ReferenceFree, LogoHasTheWorkedValue) {
  const auto output = logo_loss(at::tensor({-0.6}, at::kDouble),
                                at::tensor({-1.2, -1.8}, at::kDouble).view({1, 2}), 0.5, 2.5, 1);
  EXPECT_NEAR(output.loss.item<double>(), 2.171097, 1e-6);
}

TEST(ReferenceFree, KtoEqualsItsFormula) {
  const auto policy = at::tensor({-3.0, -5.0, -2.0}, at::kDouble);
  const auto ref = at::tensor({-4.0, -4.0, -2.0}, at::kDouble);
  const auto desirable = at::tensor({1, 0, 1}, at::kLong).to(at::kBool);
  const auto sigmoid = [](double x) { return 1.0 / (1.0 + std::exp(-x)); };
  const auto output = kto_loss(policy, ref, desirable, 0.5, 0.2, 1.0, 1.5, 3);
  const double wanted =
      (1 - sigmoid(0.2 * 0.5)) + 1.5 * (1 - sigmoid(0.2 * (0.5 + 1.0))) + (1 - sigmoid(0.2 * -0.5));
  EXPECT_NEAR(output.loss.item<double>(), wanted / 3, 1e-9);
  // Rewards beta r: the desirable rows' mean less the others'.
  const auto& margin = output.metrics.at("rewards/margins");
  const auto mean = [&](const char* key) {
    return output.metrics.at(key).sum / output.metrics.at(key).weight;
  };
  EXPECT_NEAR(margin.sum / margin.weight, mean("rewards/chosen") - mean("rewards/rejected"), 1e-12);
}

TEST(ReferenceFree, GradientsEqualCentralDifferences) {
  const auto check = [](auto&& loss, const char* what) {
    Pairs p;
    loss(p).backward();
    for (at::Tensor* values : {&p.chosen, &p.rejected}) {
      const auto gradient = values->grad().clone();
      for (int64_t i = 0; i < 2; ++i) {
        constexpr double kStep = 1e-6;
        double ends[2];
        for (const int side : {0, 1}) {
          Pairs moved;
          (values == &p.chosen ? moved.chosen : moved.rejected)
              .detach()[i]
              .add_(side == 0 ? kStep : -kStep);
          ends[side] = loss(moved).template item<double>();
        }
        EXPECT_NEAR(gradient[i].item<double>(), (ends[0] - ends[1]) / (2 * kStep), 1e-6) << what;
      }
    }
  };
  for (const std::string type : {"sigmoid", "hinge", "ipo", "simpo"})
    check(
        [&](const Pairs& p) {
          return cpo_loss(p.in(), {.loss_type = type, .label_smoothing = 0.1}, p.totals).loss;
        },
        type.c_str());
  check([](const Pairs& p) { return orpo_loss(p.in(), 0.3, p.totals).loss; }, "orpo");
}

TEST(Dpo, GradientsOfEveryLossEqualCentralDifferences) {
  for (const auto& type : dpo_loss_types()) {
    const auto loss = [&](const Pairs& p) {
      return dpo_loss({.policy_chosen_B = p.chosen,
                       .policy_rejected_B = p.rejected,
                       .ref_chosen_B = at::tensor({-4.5, -5.8}, at::kDouble),
                       .ref_rejected_B = at::tensor({-8.1, -5.2}, at::kDouble),
                       .chosen_lengths_B = p.chosen_lengths,
                       .rejected_lengths_B = p.rejected_lengths},
                      {.loss_type = {type}, .beta = 0.3, .label_smoothing = 0.1}, p.totals)
          .loss;
    };
    Pairs p;
    loss(p).backward();
    for (int64_t i = 0; i < 2; ++i) {
      constexpr double kStep = 1e-6;
      Pairs up, down;
      up.chosen.detach()[i].add_(kStep);
      down.chosen.detach()[i].sub_(kStep);
      EXPECT_NEAR(p.chosen.grad()[i].item<double>(),
                  (loss(up).item<double>() - loss(down).item<double>()) / (2 * kStep), 1e-6)
          << type;
    }
  }
}

}  // namespace
}  // namespace meed
