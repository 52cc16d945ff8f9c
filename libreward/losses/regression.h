#pragma once

#include "libpolicy/losses/loss_output.h"

namespace meed {

/// A label that is not there (NeMo-Aligner's convention).
constexpr double kMissingLabel = -100.0;

/// Masked regression on K attributes (SteerLM 2.0, HelpSteer2): sum of (prediction - label)^2 over
/// the labels that are there, divided by `num_labels` of the whole step. [B, K] float32 or float64.
/// Throws DataError where a whole step has no label (num_labels 0). Metrics: mse, num_labels.
LossOutput attribute_regression_loss(const at::Tensor& predictions_BK, const at::Tensor& labels_BK,
                                     double num_labels);
/// How many labels are there.
double count_labels(const at::Tensor& labels_BK);

/// One reward from attributes: their sum by weight, [B].
at::Tensor weighted_attributes(const at::Tensor& attributes_BK, const at::Tensor& weights_K);

/// Binary cross-entropy of a reference-conditioned verifier (VerifyRM) on logits [B], labels in
/// [0, 1] [B]; summed, divided by `num_rows`. Metric: accuracy.
LossOutput verifier_loss(const at::Tensor& logits_B, const at::Tensor& labels_B, double num_rows);

}  // namespace meed
