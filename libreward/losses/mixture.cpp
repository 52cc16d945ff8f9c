#include "libreward/losses/mixture.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "libpolicy/core/error.h"
#include "libreward/losses/bradley_terry.h"
#include "libreward/losses/regression.h"

namespace meed {

LossOutput mixture_loss(const at::Tensor& log_gates_BK, const at::Tensor& differences_BK,
                        double alpha, double num_pairs) {
  const auto log_mixture_B =
      (log_gates_BK + at::log_sigmoid(differences_BK)).logsumexp({1}, /*keepdim=*/false);
  const auto negative_entropy_B = (log_gates_BK.exp() * log_gates_BK).sum(/*dim=*/1);
  LossOutput output{.loss = (-log_mixture_B + alpha * negative_entropy_B).sum() / num_pairs,
                    .metrics = {}};
  const auto count = static_cast<double>(log_mixture_B.numel());
  const auto preference_B = mixture_preference(log_gates_BK, differences_BK);
  output.metrics["accuracy"] = {(preference_B > 0.5).sum().item<double>(), count};
  output.metrics["gate_entropy"] = {-negative_entropy_B.detach().sum().item<double>(), count};
  return output;
}

at::Tensor mixture_target(const at::Tensor& log_gates_BK, const at::Tensor& losses_BK, double tau) {
  MEED_CHECK(tau > 0, "tau must be positive");
  return (log_gates_BK.detach() - losses_BK.detach() / tau).softmax(/*dim=*/-1);
}

LossOutput router_loss(const at::Tensor& log_gates_BK, const at::Tensor& target_BK,
                       double num_pairs) {
  return {.loss = -(target_BK.detach() * log_gates_BK).sum() / num_pairs, .metrics = {}};
}

at::Tensor mixture_preference(const at::Tensor& log_gates_BK, const at::Tensor& differences_BK) {
  return (log_gates_BK.detach().exp() * differences_BK.detach().sigmoid()).sum(/*dim=*/1);
}

AspectScores gated_aspects(const at::Tensor& criteria_BC, const at::Tensor& criteria_logits_BC,
                           const at::Tensor& aspect_logits_BJ, const at::Tensor& aspect_of_C,
                           double temperature, double scale) {
  const int64_t B = criteria_BC.size(0), C = criteria_BC.size(1), J = aspect_logits_BJ.size(1);
  MEED_CHECK(aspect_of_C.numel() == C, "an aspect for each criterion");
  MEED_CHECK(aspect_of_C.min().item<int64_t>() >= 0 && aspect_of_C.max().item<int64_t>() < J &&
                 aspect_of_C.bincount(/*weights=*/{}, J).min().item<int64_t>() > 0,
             "criteria must cover all of the aspects and nothing else");
  const auto index_BC = aspect_of_C.unsqueeze(0).expand({B, C});
  const auto scaled_BC = criteria_logits_BC / temperature;
  // Softmax within each aspect, shifted by the row's largest.
  const auto exp_BC = (scaled_BC - scaled_BC.amax(/*dim=*/1, /*keepdim=*/true).detach()).exp();
  const auto sums_BJ =
      at::zeros({B, J}, exp_BC.options().requires_grad(false)).scatter_add(1, index_BC, exp_BC);
  AspectScores scores;
  scores.criteria_gates_BC = scale * exp_BC / sums_BJ.gather(1, index_BC).clamp_min(1e-30);
  scores.aspects_BJ = at::zeros({B, J}, exp_BC.options().requires_grad(false))
                          .scatter_add(1, index_BC, scores.criteria_gates_BC * criteria_BC);
  scores.aspect_gates_BJ = scale * (aspect_logits_BJ / temperature).softmax(/*dim=*/1);
  scores.overall_B = (scores.aspect_gates_BJ * scores.aspects_BJ).sum(/*dim=*/1);
  return scores;
}

LossOutput aspect_loss(const AspectScores& chosen, const AspectScores& rejected,
                       const at::Tensor& criteria_2BC, const at::Tensor& criteria_labels_2BC,
                       const at::Tensor& aspect_labels_BJ, double num_pairs,
                       const AspectTotals& totals) {
  auto output = bradley_terry_loss(chosen.overall_B, rejected.overall_B, {}, 0.0, num_pairs);
  const auto signs = aspect_labels_BJ.to(chosen.aspects_BJ.scalar_type());
  const auto labelled_BJ = (signs != 0).to(signs.scalar_type());
  const double num_labelled = labelled_BJ.sum().item<double>();
  const auto by_aspect =
      (-at::log_sigmoid(signs * (chosen.aspects_BJ - rejected.aspects_BJ)) * labelled_BJ).sum() /
      std::max(1.0, totals.aspects > 0 ? totals.aspects : num_labelled);
  output.loss = output.loss + by_aspect;
  if (const double labels = count_labels(criteria_labels_2BC); labels > 0) {
    const auto criteria = attribute_regression_loss(criteria_2BC, criteria_labels_2BC,
                                                    totals.criteria > 0 ? totals.criteria : labels);
    output.loss = output.loss + criteria.loss;
    merge(output.metrics, criteria.metrics);
  }
  const auto agreed_BJ = (signs * (chosen.aspects_BJ - rejected.aspects_BJ) > 0).to(at::kDouble);
  output.metrics["aspect_accuracy"] = {(agreed_BJ * labelled_BJ).sum().item<double>(),
                                       num_labelled};
  return output;
}

}  // namespace meed
