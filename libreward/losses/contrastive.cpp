#include "libreward/losses/contrastive.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <cmath>

#include "libpolicy/core/error.h"
#include "libpolicy/distributed/communicator.h"

namespace meed {
namespace {

at::Tensor unit_rows(const at::Tensor& rows_BD) {
  return rows_BD / rows_BD.norm(2, {1}, /*keepdim=*/true).clamp_min(1e-12);
}

/// Rows of the other ranks below this rank's own, which keep their gradient.
at::Tensor with_other_ranks(const at::Tensor& rows_BD, Communicator* comm) {
  if (comm == nullptr || comm->size() == 1) return rows_BD;
  std::vector<at::Tensor> all{rows_BD};
  const auto parts = all_gather_ragged(*comm, rows_BD);
  for (size_t rank = 0; rank < parts.size(); ++rank)
    if (static_cast<int>(rank) != comm->rank()) all.push_back(parts[rank]);
  return at::cat(all);
}

}  // namespace

LossOutput info_nce_loss(const at::Tensor& features_BD, const at::Tensor& positives_BD,
                         double temperature, double num_rows, Communicator* comm) {
  MEED_CHECK(features_BD.sizes() == positives_BD.sizes() && features_BD.dim() == 2,
             "one positive for each row");
  MEED_CHECK(temperature > 0, "temperature must be positive");
  const auto candidates_ND = with_other_ranks(unit_rows(positives_BD), comm);
  const auto scores_BN = at::mm(unit_rows(features_BD), candidates_ND.t()) / temperature;
  const auto log_BN = scores_BN.log_softmax(/*dim=*/1);
  LossOutput output{.loss = -log_BN.diagonal().sum() / num_rows, .metrics = {}};
  const auto own_B = at::arange(features_BD.size(0), at::kLong);
  output.metrics["contrastive_accuracy"] = {
      (scores_BN.argmax(/*dim=*/1) == own_B).sum().item<double>(),
      static_cast<double>(features_BD.size(0))};
  return output;
}

at::Tensor sinkhorn_codes(const at::Tensor& scores_BK, int iterations, double epsilon) {
  at::NoGradGuard no_grad;
  // In logarithms, so that sharp scores do not overflow.
  auto log_BK = scores_BK.detach().to(at::kDouble) / epsilon;
  const double per_prototype =
      std::log(static_cast<double>(log_BK.size(0)) / static_cast<double>(log_BK.size(1)));
  for (int i = 0; i < iterations; ++i) {
    log_BK = log_BK - log_BK.logsumexp({0}, /*keepdim=*/true) + per_prototype;
    log_BK = log_BK - log_BK.logsumexp({1}, /*keepdim=*/true);
  }
  return log_BK.exp().to(scores_BK.scalar_type());
}

LossOutput swav_loss(const at::Tensor& features_BD, const at::Tensor& positives_BD,
                     const at::Tensor& prototypes_KD, double temperature, double num_rows,
                     int iterations, double epsilon) {
  const auto prototypes_DK = unit_rows(prototypes_KD).t();
  const auto first_BK = at::mm(unit_rows(features_BD), prototypes_DK);
  const auto second_BK = at::mm(unit_rows(positives_BD), prototypes_DK);
  const auto cross = [&](const at::Tensor& codes_from_BK, const at::Tensor& scores_BK) {
    return -(sinkhorn_codes(codes_from_BK, iterations, epsilon) *
             (scores_BK / temperature).log_softmax(/*dim=*/1))
                .sum();
  };
  return {.loss = 0.5 * (cross(second_BK, first_BK) + cross(first_BK, second_BK)) / num_rows,
          .metrics = {}};
}

at::Tensor meta_difference(const at::Tensor& rewards_PK) {
  MEED_CHECK(rewards_PK.dim() == 2 && rewards_PK.size(1) > 1, "at least two responses a prompt");
  const double k = static_cast<double>(rewards_PK.size(1));
  const auto gaps_PKK = (rewards_PK.unsqueeze(2) - rewards_PK.unsqueeze(1)).abs().sigmoid();
  const auto above_PKK = at::triu(gaps_PKK, /*diagonal=*/1);
  return 2.0 / (k * k) * above_PKK.sum() / static_cast<double>(rewards_PK.size(0));
}

}  // namespace meed
