#include "libpolicy/losses/reference_free.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "libpolicy/core/error.h"
#include "libpolicy/losses/pair_terms.h"

namespace meed {
namespace {

/// The chosen's negative log-likelihood over the step's chosen tokens.
at::Tensor nll_loss(const ReferenceFreeInputs& in, const DpoTotals& totals, LossOutput& output) {
  const auto nll = -in.chosen_B.sum() / std::max(1.0, totals.num_chosen_tokens);
  output.metrics["nll_loss"] = {-in.chosen_B.detach().sum().item<double>(),
                                in.chosen_lengths_B.sum().item<double>()};
  return nll;
}

at::Tensor by_token(const at::Tensor& sums_B, const at::Tensor& lengths_B) {
  return sums_B / lengths_B.clamp_min(1.0);
}

}  // namespace

LossOutput cpo_loss(const ReferenceFreeInputs& in, const CpoOptions& options,
                    const DpoTotals& totals) {
  const bool by_length = options.loss_type == "ipo" || options.loss_type == "simpo";
  const auto chosen_B = by_length ? by_token(in.chosen_B, in.chosen_lengths_B) : in.chosen_B;
  const auto rejected_B =
      by_length ? by_token(in.rejected_B, in.rejected_lengths_B) : in.rejected_B;
  const auto difference_B = chosen_B - rejected_B;
  at::Tensor losses_B;
  if (options.loss_type == "sigmoid") {
    losses_B = smoothed_logistic_loss(options.beta * difference_B, options.label_smoothing);
  } else if (options.loss_type == "simpo") {
    losses_B = smoothed_logistic_loss(options.beta * difference_B - options.simpo_gamma,
                                      options.label_smoothing);
  } else if (options.loss_type == "hinge") {
    losses_B = at::relu(1.0 - options.beta * difference_B);
  } else {
    MEED_CHECK(options.loss_type == "ipo", "unknown CPO loss " + options.loss_type);
    losses_B = (difference_B - 1.0 / (2.0 * options.beta)).square();
  }
  LossOutput output{.loss = losses_B.sum() / totals.num_pairs, .metrics = {}};
  const auto nll = nll_loss(in, totals, output);
  if (options.cpo_alpha != 0.0) output.loss = output.loss + options.cpo_alpha * nll;
  note_pairs(output, at::scalar_tensor(options.beta, at::kDouble), chosen_B, rejected_B,
             in.chosen_B, in.rejected_B);
  return output;
}

LossOutput orpo_loss(const ReferenceFreeInputs& in, double beta, const DpoTotals& totals) {
  const auto chosen_B = by_token(in.chosen_B, in.chosen_lengths_B);
  const auto rejected_B = by_token(in.rejected_B, in.rejected_lengths_B);
  // log(p / (1 - p)) = x - log(1 - e^x) for x = log p < 0; x near 0 would give infinity.
  constexpr double kLargestLog = -1e-6;
  const auto log_odds = [](const at::Tensor& x_B) {
    const auto bounded_B = x_B.clamp_max(kLargestLog);
    return bounded_B - (-bounded_B.expm1()).log();
  };
  const auto log_odds_B = log_odds(chosen_B) - log_odds(rejected_B);
  const auto ratio_B = at::log_sigmoid(log_odds_B);
  LossOutput output;
  output.loss = nll_loss(in, totals, output) - beta * ratio_B.sum() / totals.num_pairs;
  note_pairs(output, at::scalar_tensor(beta, at::kDouble), chosen_B, rejected_B, in.chosen_B,
             in.rejected_B);
  note_mean(output, "log_odds_chosen", log_odds_B);
  note_mean(output, "log_odds_ratio", ratio_B);
  return output;
}

LossOutput logo_loss(const at::Tensor& chosen_B, const at::Tensor& rejected_BV, double beta,
                     double gamma, double num_rows) {
  const auto margin_B = beta * (chosen_B - rejected_BV.mean(/*dim=*/1)) - gamma;
  LossOutput output{.loss = -at::log_sigmoid(margin_B).sum() / num_rows, .metrics = {}};
  note_mean(output, "rewards/margins", margin_B + gamma);
  note_mean(output, "rewards/accuracies", chosen_B > rejected_BV.amax(/*dim=*/1));
  return output;
}

LossOutput kto_loss(const at::Tensor& policy_B, const at::Tensor& ref_B,
                    const at::Tensor& desirable_B, double kl, double beta, double desirable_weight,
                    double undesirable_weight, double num_rows) {
  MEED_CHECK(kl >= 0.0, "the KL baseline is not negative");
  const auto ratio_B = policy_B - ref_B;
  const auto desirable_loss_B = 1.0 - (beta * (ratio_B - kl)).sigmoid();
  const auto undesirable_loss_B = 1.0 - (beta * (kl - ratio_B)).sigmoid();
  const auto losses_B = at::where(desirable_B, desirable_weight * desirable_loss_B,
                                  undesirable_weight * undesirable_loss_B);
  LossOutput output{.loss = losses_B.sum() / num_rows, .metrics = {}};
  const auto side = [&](const char* reward, const char* logps, const at::Tensor& which_B) {
    if (!which_B.any().item<bool>()) return;
    note_mean(output, reward, beta * ratio_B.masked_select(which_B));
    note_mean(output, logps, policy_B.masked_select(which_B));
  };
  side("rewards/chosen", "logps/chosen", desirable_B);
  side("rewards/rejected", "logps/rejected", desirable_B.logical_not());
  const auto& metrics = output.metrics;
  if (metrics.count("rewards/chosen") != 0 && metrics.count("rewards/rejected") != 0) {
    const auto mean = [&](const char* key) { return metrics.at(key).sum / metrics.at(key).weight; };
    const auto rows = static_cast<double>(desirable_B.numel());
    output.metrics["rewards/margins"] = {(mean("rewards/chosen") - mean("rewards/rejected")) * rows,
                                         rows};
  }
  output.metrics["kl"] = {kl, 1.0};
  return output;
}

}  // namespace meed
