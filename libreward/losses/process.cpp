#include "libreward/losses/process.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "libpolicy/core/error.h"
#include "libreward/losses/regression.h"

namespace meed {

LossOutput step_loss(const at::Tensor& logits_S, const at::Tensor& labels_S, double num_steps) {
  if (num_steps <= 0.0) throw DataError("no step of a whole batch has a label");
  const auto there_S = (labels_S != kMissingLabel).nonzero().flatten();
  return verifier_loss(logits_S.index_select(0, there_S), labels_S.index_select(0, there_S),
                       num_steps);
}

std::vector<double> labels_from_first_error(int64_t num_steps, std::optional<int64_t> first_error) {
  std::vector<double> labels(static_cast<size_t>(num_steps), 1.0);
  if (!first_error) return labels;
  MEED_CHECK(*first_error >= 1 && *first_error <= num_steps, "the first error is one of the steps");
  const auto at = labels.begin() + (*first_error - 1);
  *at = 0.0;
  std::fill(at + 1, labels.end(), kMissingLabel);
  return labels;
}

std::optional<int64_t> first_error_of(std::span<const double> shares, double threshold) {
  for (size_t i = 0; i < shares.size(); ++i)
    if (shares[i] <= threshold) return static_cast<int64_t>(i) + 1;
  return std::nullopt;
}

std::optional<int64_t> first_step_below(std::span<const double> probabilities, double threshold) {
  for (size_t i = 0; i < probabilities.size(); ++i)
    if (probabilities[i] < threshold) return static_cast<int64_t>(i) + 1;
  return std::nullopt;
}

double harmonic_mean(double a, double b) { return a + b > 0.0 ? 2.0 * a * b / (a + b) : 0.0; }

FirstErrorScores first_error_scores(std::span<const std::optional<int64_t>> labels,
                                    std::span<const std::optional<int64_t>> predictions) {
  MEED_CHECK(labels.size() == predictions.size(), "a prediction for each solution");
  FirstErrorScores scores;
  for (size_t i = 0; i < labels.size(); ++i) {
    (labels[i] ? scores.erroneous : scores.correct) += 1;
    (labels[i] ? scores.accuracy_erroneous : scores.accuracy_correct) +=
        labels[i] == predictions[i];
  }
  scores.accuracy_erroneous /= static_cast<double>(std::max<int64_t>(1, scores.erroneous));
  scores.accuracy_correct /= static_cast<double>(std::max<int64_t>(1, scores.correct));
  scores.f1 = harmonic_mean(scores.accuracy_erroneous, scores.accuracy_correct);
  return scores;
}

bool consensus(std::optional<int64_t> monte_carlo, std::optional<int64_t> judge) {
  return monte_carlo == judge;
}

double aggregate_steps(std::span<const double> p, const std::string& how) {
  if (p.empty()) return 0.0;
  if (how == "min") return *std::min_element(p.begin(), p.end());
  if (how == "last") return p.back();
  if (how == "mean")
    return std::accumulate(p.begin(), p.end(), 0.0) / static_cast<double>(p.size());
  const double product = std::accumulate(p.begin(), p.end(), 1.0, std::multiplies<>());
  if (how == "product") return product;
  MEED_CHECK(how == "geometric_mean", "unknown aggregate " + how);
  return std::pow(product, 1.0 / static_cast<double>(p.size()));
}

}  // namespace meed
