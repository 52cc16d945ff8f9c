#include "libreward/losses/regression.h"

#include <ATen/ATen.h>

#include "libpolicy/core/error.h"

namespace meed {

double count_labels(const at::Tensor& labels_BK) {
  return (labels_BK != kMissingLabel).sum().item<double>();
}

LossOutput attribute_regression_loss(const at::Tensor& predictions_BK, const at::Tensor& labels_BK,
                                     double num_labels) {
  if (num_labels <= 0.0)
    throw DataError("no attribute has a label in a whole step; check the label columns");
  const auto there_BK = labels_BK != kMissingLabel;
  const auto zero = at::zeros({}, predictions_BK.options().requires_grad(false));
  const auto squares_BK =
      at::where(there_BK, (predictions_BK - labels_BK.to(predictions_BK.scalar_type())).square(),
                zero);
  LossOutput output{.loss = squares_BK.sum() / num_labels, .metrics = {}};
  output.metrics["mse"] = {squares_BK.detach().sum().item<double>(),
                           there_BK.sum().item<double>()};
  output.metrics["num_labels"] = {there_BK.sum().item<double>(), 1.0, Reduce::kSum};
  return output;
}

at::Tensor weighted_attributes(const at::Tensor& attributes_BK, const at::Tensor& weights_K) {
  return (attributes_BK * weights_K.to(attributes_BK.scalar_type())).sum(/*dim=*/-1);
}

LossOutput verifier_loss(const at::Tensor& logits_B, const at::Tensor& labels_B, double num_rows) {
  const auto labels = labels_B.to(logits_B.scalar_type());
  const auto losses_B =
      -labels * at::log_sigmoid(logits_B) - (1.0 - labels) * at::log_sigmoid(-logits_B);
  LossOutput output{.loss = losses_B.sum() / num_rows, .metrics = {}};
  output.metrics["accuracy"] = {((logits_B > 0) == (labels > 0.5)).sum().item<double>(),
                                static_cast<double>(logits_B.numel())};
  return output;
}

}  // namespace meed
