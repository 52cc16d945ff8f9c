#include "libpolicy/losses/dpo.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <functional>

#include "libpolicy/core/error.h"
#include "libpolicy/losses/pair_terms.h"

namespace meed {
namespace {

/// f'(e^x) for a log-ratio x.
at::Tensor divergence_score(const at::Tensor& ratios_B, const DpoOptions& options) {
  const auto& type = options.f_divergence_type;
  if (type == "reverse_kl") return ratios_B;
  if (type == "forward_kl") return 1.0 - (-ratios_B).exp();
  if (type == "js_divergence") return std::log(2.0) + at::log_sigmoid(ratios_B);
  MEED_CHECK(type == "alpha_divergence", "unknown f_divergence_type " + type);
  constexpr double kLargestExponent = 80.0;
  const double power = options.f_alpha_divergence_coef - 1.0;
  if (std::abs(power) < 1e-6) return ratios_B;  // the limit
  return ((power * ratios_B).clamp_max(kLargestExponent).exp() - 1.0) / power;
}

/// What the losses read.
struct Pairs {
  const DpoInputs& in;
  const DpoOptions& options;
  const DpoTotals& totals;
  at::Tensor beta_B, chosen_B, rejected_B;  // log-ratios
  at::Tensor chosen_score_B, rejected_score_B;

  at::Tensor difference() const { return chosen_score_B - rejected_score_B; }
  at::Tensor difference_by_token() const {
    return chosen_score_B / in.chosen_lengths_B.clamp_min(1.0) -
           rejected_score_B / in.rejected_lengths_B.clamp_min(1.0);
  }
  at::Tensor smoothed(const at::Tensor& scaled_B) const {
    return smoothed_logistic_loss(scaled_B, options.label_smoothing);
  }
};

at::Tensor sorted(const at::Tensor& values_B) { return std::get<0>(values_B.sort()); }

at::Tensor exo_pair(const Pairs& p) {
  const double s = p.options.label_smoothing;
  const auto scaled_B = p.beta_B * p.difference();
  return scaled_B.sigmoid() * (at::log_sigmoid(scaled_B) - std::log1p(-s)) +
         (-scaled_B).sigmoid() * (at::log_sigmoid(-scaled_B) - std::log(s));
}

at::Tensor robust(const Pairs& p) {
  const double s = p.options.label_smoothing;
  const auto scaled_B = p.beta_B * p.difference();
  return (-(1.0 - s) * at::log_sigmoid(scaled_B) + s * at::log_sigmoid(-scaled_B)) /
         (1.0 - 2.0 * s);
}

at::Tensor discopop(const Pairs& p) {
  const auto scaled_B = p.beta_B * p.difference();
  const auto mix_B = (scaled_B / p.options.discopop_tau).sigmoid();
  return -at::log_sigmoid(scaled_B) * (1.0 - mix_B) + (-scaled_B).exp() * mix_B;
}

at::Tensor sft(const Pairs& p) {
  const auto& sums_B =
      p.in.chosen_logprobs_B.defined() ? p.in.chosen_logprobs_B : p.in.policy_chosen_B;
  return -sums_B * (p.totals.num_pairs / std::max(1.0, p.totals.num_chosen_tokens));
}

using PairLoss = std::function<at::Tensor(const Pairs&)>;

/// [B] losses of one type.
const std::vector<std::pair<std::string, PairLoss>>& pair_losses() {
  static const std::vector<std::pair<std::string, PairLoss>> losses = {
      {"sigmoid", [](const Pairs& p) { return p.smoothed(p.beta_B * p.difference()); }},
      {"hinge", [](const Pairs& p) { return at::relu(1.0 - p.beta_B * p.difference()); }},
      {"ipo",
       [](const Pairs& p) { return (p.difference_by_token() - 0.5 / p.beta_B).square(); }},
      {"exo_pair", exo_pair},
      {"nca_pair",
       [](const Pairs& p) {
         return -at::log_sigmoid(p.beta_B * p.chosen_B) -
                0.5 * at::log_sigmoid(-p.beta_B * p.chosen_B) -
                0.5 * at::log_sigmoid(-p.beta_B * p.rejected_B);
       }},
      {"robust", robust},
      {"bco_pair",
       [](const Pairs& p) {
         return -at::log_sigmoid(p.beta_B * p.chosen_B) -
                at::log_sigmoid(-p.beta_B * p.rejected_B);
       }},
      {"sppo_hard",
       [](const Pairs& p) {
         return (p.chosen_B - 0.5 / p.beta_B).square() + (p.rejected_B + 0.5 / p.beta_B).square();
       }},
      {"aot",
       [](const Pairs& p) {
         return p.smoothed(p.beta_B * (sorted(p.in.policy_chosen_B - p.in.policy_rejected_B) -
                                       sorted(p.in.ref_chosen_B - p.in.ref_rejected_B)));
       }},
      {"aot_unpaired",
       [](const Pairs& p) {
         return p.smoothed(p.beta_B * (sorted(p.chosen_B) - sorted(p.rejected_B)));
       }},
      {"apo_zero",
       [](const Pairs& p) {
         return 1.0 - (p.beta_B * p.chosen_B).sigmoid() + (p.beta_B * p.rejected_B).sigmoid();
       }},
      {"apo_down",
       [](const Pairs& p) {
         return (p.beta_B * p.chosen_B).sigmoid() + 1.0 -
                (p.beta_B * (p.chosen_B - p.rejected_B)).sigmoid();
       }},
      {"discopop", discopop},
      {"sft", sft},
      {"sigmoid_norm",
       [](const Pairs& p) { return -at::log_sigmoid(p.beta_B * p.difference_by_token()); }},
  };
  return losses;
}

const PairLoss& pair_loss(const std::string& type) {
  for (const auto& [name, loss] : pair_losses())
    if (name == type) return loss;
  throw InternalError("unknown DPO loss " + type);
}

}  // namespace

const std::vector<std::string>& dpo_loss_types() {
  static const std::vector<std::string> types = [] {
    std::vector<std::string> names;
    for (const auto& [name, loss] : pair_losses()) names.push_back(name);
    return names;
  }();
  return types;
}

LossOutput dpo_loss(const DpoInputs& in, const DpoOptions& options, const DpoTotals& totals) {
  MEED_CHECK(options.loss_weights.empty() ||
                 options.loss_weights.size() == options.loss_type.size(),
             "loss_weights and loss_type differ in number");
  const auto chosen_B = in.policy_chosen_B - in.ref_chosen_B;
  const auto rejected_B = in.policy_rejected_B - in.ref_rejected_B;
  const Pairs pairs{
      .in = in,
      .options = options,
      .totals = totals,
      .beta_B = in.betas_B.defined() ? in.betas_B : at::full_like(chosen_B, options.beta),
      .chosen_B = chosen_B,
      .rejected_B = rejected_B,
      .chosen_score_B = divergence_score(chosen_B, options),
      .rejected_score_B = divergence_score(rejected_B, options)};
  auto losses_B = at::zeros_like(chosen_B);
  for (size_t i = 0; i < options.loss_type.size(); ++i) {
    const double weight = options.loss_weights.empty() ? 1.0 : options.loss_weights[i];
    losses_B = losses_B + weight * pair_loss(options.loss_type[i])(pairs);
  }
  if (in.weights_B.defined()) losses_B = losses_B * in.weights_B.detach();
  LossOutput output{.loss = losses_B.sum() / totals.num_pairs, .metrics = {}};
  note_pairs(output, pairs.beta_B, chosen_B, rejected_B, in.policy_chosen_B, in.policy_rejected_B);
  return output;
}

at::Tensor pair_logprob_sums(const at::Tensor& logprobs_M, const at::Tensor& sequence_M,
                             int64_t num_pairs, std::optional<double> ld_alpha) {
  const auto zeros_2B = at::zeros({2 * num_pairs}, logprobs_M.options().requires_grad(false));
  if (!ld_alpha) return zeros_2B.index_add(0, sequence_M, logprobs_M);
  const auto* sequence = sequence_M.const_data_ptr<int64_t>();
  std::vector<int64_t> lengths(static_cast<size_t>(2 * num_pairs), 0);
  std::vector<int64_t> places;
  for (int64_t m = 0; m < sequence_M.numel(); ++m)
    places.push_back(lengths[static_cast<size_t>(sequence[m])]++);
  std::vector<float> weights;
  for (int64_t m = 0; m < sequence_M.numel(); ++m) {
    const auto pair = static_cast<size_t>(sequence[m] % num_pairs);
    const int64_t shared = std::min(lengths[pair], lengths[pair + static_cast<size_t>(num_pairs)]);
    weights.push_back(places[static_cast<size_t>(m)] < shared ? 1.0f
                                                              : static_cast<float>(*ld_alpha));
  }
  return zeros_2B.index_add(0, sequence_M, logprobs_M * at::tensor(weights));
}

at::Tensor dynamic_beta(const at::Tensor& reward_gaps_B, double beta, double w, double k) {
  constexpr double kLeastBeta = 1e-3;
  return (beta * (1.0 + w * (1.0 - (-k * reward_gaps_B.detach()).exp()))).clamp_min(kLeastBeta);
}

}  // namespace meed
