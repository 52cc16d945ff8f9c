#pragma once

#include <optional>
#include <string>
#include <vector>

#include "libpolicy/losses/loss_output.h"

namespace meed {

/// Summed log-probabilities of B pairs, float32; lengths in tokens. What is undefined is not used.
struct DpoInputs {
  at::Tensor policy_chosen_B, policy_rejected_B;  ///< with gradient
  at::Tensor ref_chosen_B, ref_rejected_B;
  at::Tensor chosen_lengths_B, rejected_lengths_B;
  /// The plain sums where policy_chosen_B is length-desensitised; read by "sft".
  at::Tensor chosen_logprobs_B{};
  at::Tensor weights_B{};  ///< factor on each pair's loss (WPO), no gradient
  at::Tensor betas_B{};    ///< a beta for each pair (MM-DPO); goes before DpoOptions::beta
};

struct DpoOptions {
  /// One or more of dpo_loss_types(), added up.
  std::vector<std::string> loss_type = {"sigmoid"};
  std::vector<double> loss_weights{};  ///< as many; empty: each 1
  double beta = 0.1;
  double label_smoothing = 0.0;  ///< sigmoid (cDPO), exo_pair, robust, aot, aot_unpaired
  std::string f_divergence_type = "reverse_kl";
  double f_alpha_divergence_coef = 0.5;
  double discopop_tau = 0.05;
};

/// Counts of the whole step over all ranks.
struct DpoTotals {
  double num_pairs = 1.0;
  double num_chosen_tokens = 1.0;  ///< read by "sft"
};

/// "sigmoid", "hinge", "ipo", "exo_pair", "nca_pair", "robust", "bco_pair", "sppo_hard", "aot",
/// "aot_unpaired", "apo_zero", "apo_down", "discopop", "sft", "sigmoid_norm".
const std::vector<std::string>& dpo_loss_types();

/// With log-ratios c = policy_chosen - ref_chosen, j = policy_rejected - ref_rejected, scores f'(c)
/// and f'(j) of the divergence (reverse_kl: the log-ratios themselves; forward_kl 1 - e^-x;
/// js_divergence log 2 + log sigmoid x; alpha_divergence (e^((a-1)x) - 1) / (a - 1); Wang et al.
/// 2024), d their difference, s = label_smoothing:
///   sigmoid       -(1-s) log sigmoid(b d) - s log sigmoid(-b d)     (Rafailov et al. 2023, eq. 7)
///   hinge         max(0, 1 - b d)                                   (SLiC, Zhao et al. 2023)
///   ipo           (d' - 1/(2b))^2, scores by token                  (Azar et al. 2024, eq. 17)
///   sigmoid_norm  -log sigmoid(b d'), scores by token
///   exo_pair      KL of (sigmoid(b d), sigmoid(-b d)) from (1-s, s) (EXO, eq. 16; s > 0)
///   nca_pair      -log sigmoid(b c) - (log sigmoid(-b c) + log sigmoid(-b j)) / 2
///   robust        (-(1-s) log sigmoid(b d) + s log sigmoid(-b d)) / (1 - 2s)
///   bco_pair      -log sigmoid(b c) - log sigmoid(-b j)
///   sppo_hard     (c - 1/(2b))^2 + (j + 1/(2b))^2
///   aot           sigmoid's on differences sorted apart: policy's and reference's chosen less
///                 rejected; aot_unpaired: sorted c less sorted j. Sorted over the call's pairs.
///   apo_zero      1 - sigmoid(b c) + sigmoid(b j);  apo_down  sigmoid(b c) + 1 - sigmoid(b (c - j))
///   discopop      (1 - m)(-log sigmoid(b d)) + m e^(-b d), m = sigmoid(b d / discopop_tau)
///   sft           -log-probability of the chosen, mean over the step's chosen tokens
/// summed and divided by `num_pairs` of the whole step. Equal to TRL 1.16's DPOTrainer, which has
/// no smoothing in "sigmoid". Metrics as TRL: rewards/{chosen,rejected,accuracies,margins}, logps/*.
LossOutput dpo_loss(const DpoInputs& inputs, const DpoOptions& options, const DpoTotals& totals);

/// Sums of log-probabilities by sequence, float32 [2B]: chosen sequences are 0..B-1, rejected
/// B..2B-1. With `ld_alpha` tokens beyond the shorter side's length weigh ld_alpha (LD-DPO). Tokens
/// of a sequence stand in order in logprobs_M; sequence_M: int64.
at::Tensor pair_logprob_sums(const at::Tensor& logprobs_M, const at::Tensor& sequence_M,
                             int64_t num_pairs, std::optional<double> ld_alpha);

/// MM-DPO's beta of a pair with reward gap d >= 0: beta (1 + w (1 - e^(-k d))), at least 1e-3; in
/// [beta, beta (1 + w)]. No gradient.
at::Tensor dynamic_beta(const at::Tensor& reward_gaps_B, double beta, double w, double k);

}  // namespace meed
