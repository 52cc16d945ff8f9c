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

/// Rows of the other ranks below this rank's own, which alone have a gradient.
at::Tensor with_other_ranks(const at::Tensor& rows_BD, Communicator* comm) {
  if (comm == nullptr || comm->size() == 1) return rows_BD;
  std::vector<at::Tensor> all{rows_BD};
  const auto parts = all_gather_ragged(*comm, rows_BD.detach());
  for (size_t rank = 0; rank < parts.size(); ++rank)
    if (static_cast<int>(rank) != comm->rank()) all.push_back(parts[rank]);
  return at::cat(all);
}

/// The own rows' share of a sum over the rows of all ranks, with the gradient of the whole sum to
/// the own rows: added up over ranks, values and gradients are those of one process.
at::Tensor own_share(const at::Tensor& losses_N, int64_t num_own) {
  if (losses_N.size(0) == num_own) return losses_N.sum();
  const auto all = losses_N.sum();
  return all - all.detach() + losses_N.detach().narrow(0, 0, num_own).sum();
}

}  // namespace

LossOutput info_nce_loss(const at::Tensor& features_BD, const at::Tensor& positives_BD,
                         double temperature, double num_rows, Communicator* comm) {
  MEED_CHECK(features_BD.sizes() == positives_BD.sizes() && features_BD.dim() == 2,
             "one positive for each row");
  MEED_CHECK(temperature > 0, "temperature must be positive");
  const int64_t B = features_BD.size(0);
  const auto features_ND = with_other_ranks(unit_rows(features_BD), comm);
  const auto candidates_ND = with_other_ranks(unit_rows(positives_BD), comm);
  const auto scores_NN = at::mm(features_ND, candidates_ND.t()) / temperature;
  const auto losses_N = -scores_NN.log_softmax(/*dim=*/1).diagonal();
  LossOutput output{.loss = own_share(losses_N, B) / num_rows, .metrics = {}};
  output.metrics["contrastive_accuracy"] = {
      (scores_NN.narrow(0, 0, B).argmax(/*dim=*/1) == at::arange(B, at::kLong))
          .sum()
          .item<double>(),
      static_cast<double>(B)};
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
                     int iterations, double epsilon, Communicator* comm) {
  const auto prototypes_DK = unit_rows(prototypes_KD).t();
  const auto first_BK = at::mm(unit_rows(features_BD), prototypes_DK);
  const auto second_BK = at::mm(unit_rows(positives_BD), prototypes_DK);
  // Codes share the prototypes out over the rows of all ranks; each rank learns from its own.
  const auto cross = [&](const at::Tensor& codes_from_BK, const at::Tensor& scores_BK) {
    const auto codes_BK = sinkhorn_codes(with_other_ranks(codes_from_BK, comm), iterations, epsilon)
                              .narrow(0, 0, scores_BK.size(0));
    return -(codes_BK * (scores_BK / temperature).log_softmax(/*dim=*/1)).sum();
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
