#pragma once

#include "libpolicy/losses/loss_output.h"

namespace meed {

/// MiCRo's first stage (Shen et al. 2025): -log sum_k f_k sigmoid(D_k) + alpha sum_k f_k log f_k,
/// summed over B pairs and divided by `num_pairs`. log_gates_BK: log f of the prompt's router;
/// differences_BK: D_k = r_k(chosen) - r_k(rejected). Metrics: accuracy (of the mixture),
/// gate_entropy.
LossOutput mixture_loss(const at::Tensor& log_gates_BK, const at::Tensor& differences_BK,
                        double alpha, double num_pairs);

/// The second stage's target w_k = f_k exp(-L_k / tau) / sum_j f_j exp(-L_j / tau) with L_k =
/// -log sigmoid(D_k): what minimises sum w L + tau KL(w || f). No gradient. [B, K].
at::Tensor mixture_target(const at::Tensor& log_gates_BK, const at::Tensor& losses_BK, double tau);

/// Cross-entropy of the router with the target: -sum_k w_k log f_k, divided by `num_pairs`.
LossOutput router_loss(const at::Tensor& log_gates_BK, const at::Tensor& target_BK,
                       double num_pairs);

/// P(chosen is better) = sum_k f_k sigmoid(D_k), [B].
at::Tensor mixture_preference(const at::Tensor& log_gates_BK, const at::Tensor& differences_BK);

/// MJ-VIDEO's two gates: criteria_BC scores, gates over the criteria of each aspect (softmax within
/// the aspect, times scale) and over aspects (softmax, times scale). aspect_of_C: int64 [C], the
/// aspect of each criterion, 0..J-1, each with at least one. Logits are divided by `temperature`.
struct AspectScores {
  at::Tensor criteria_gates_BC, aspect_gates_BJ, aspects_BJ, overall_B;
};
AspectScores gated_aspects(const at::Tensor& criteria_BC, const at::Tensor& criteria_logits_BC,
                           const at::Tensor& aspect_logits_BJ, const at::Tensor& aspect_of_C,
                           double temperature, double scale);

/// Labels over the whole step and all ranks that aspect_loss divides by; 0: count those given.
struct AspectTotals {
  double aspects = 0.0, criteria = 0.0;
};
/// Mean squared error of the criteria (missing labels masked) + Bradley-Terry on each labelled
/// aspect + Bradley-Terry on the overall score, each by its own count, weights 1 (MJ-VIDEO; the
/// sum is our choice). aspect_labels_BJ: 1 chosen better, -1 rejected better, 0 unlabelled.
LossOutput aspect_loss(const AspectScores& chosen, const AspectScores& rejected,
                       const at::Tensor& criteria_2BC, const at::Tensor& criteria_labels_2BC,
                       const at::Tensor& aspect_labels_BJ, double num_pairs,
                       const AspectTotals& totals = {});

}  // namespace meed
