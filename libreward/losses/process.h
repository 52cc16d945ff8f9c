#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "libpolicy/losses/loss_output.h"

namespace meed {

/// Per-step cross-entropy of a process reward model: logits [S] of "this step is right", labels [S]
/// in [0, 1] (hard or Monte-Carlo shares), kMissingLabel for steps after the first error. Summed
/// over labelled steps and divided by `num_steps` of the whole step. Metric: accuracy.
LossOutput step_loss(const at::Tensor& logits_S, const at::Tensor& labels_S, double num_steps);

/// Labels of n steps whose first error is step `first_error` (1-based; nullopt: none): 1 before it,
/// 0 on it, missing after it.
std::vector<double> labels_from_first_error(int64_t num_steps, std::optional<int64_t> first_error);

/// First step (1-based) whose Monte-Carlo share of right completions is not above `threshold`.
std::optional<int64_t> first_error_of(std::span<const double> shares, double threshold = 0.0);

/// Consensus filter (Lessons of developing PRMs): keep where Monte Carlo and the judge name the same
/// first error, or both none.
bool consensus(std::optional<int64_t> monte_carlo, std::optional<int64_t> judge);

/// First step (1-based) whose probability of being right is below `threshold`: what a process
/// reward model says the first error is.
std::optional<int64_t> first_step_below(std::span<const double> probabilities, double threshold);

/// ProcessBench (Zheng et al. 2024): how often the first error is named exactly, over solutions
/// that have one and over those that have none, and the harmonic mean of the two.
struct FirstErrorScores {
  double accuracy_erroneous = 0.0, accuracy_correct = 0.0;  ///< 0 where there are none
  double f1 = 0.0;                                          ///< 0 where one of them is
  int64_t erroneous = 0, correct = 0;                       ///< solutions of each kind
};
FirstErrorScores first_error_scores(std::span<const std::optional<int64_t>> labels,
                                    std::span<const std::optional<int64_t>> predictions);
/// Harmonic mean of two accuracies; 0 where both are.
double harmonic_mean(double a, double b);

/// One number from step probabilities: "min", "product", "last", "mean", "geometric_mean". 0 for no
/// steps.
double aggregate_steps(std::span<const double> probabilities, const std::string& how);

}  // namespace meed
