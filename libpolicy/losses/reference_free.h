#pragma once

#include <string>

#include "libpolicy/losses/dpo.h"
#include "libpolicy/losses/loss_output.h"

namespace meed {

/// Preference losses without a reference model. Summed log-probabilities of B pairs, float32, with
/// gradient; lengths in tokens.
struct ReferenceFreeInputs {
  at::Tensor chosen_B, rejected_B;
  at::Tensor chosen_lengths_B, rejected_lengths_B;
};

struct CpoOptions {
  std::string loss_type = "sigmoid";  ///< "sigmoid", "hinge", "ipo", "simpo"
  double beta = 0.1;
  double label_smoothing = 0.0;  ///< sigmoid and simpo
  double simpo_gamma = 0.5;      ///< target margin of simpo
  double cpo_alpha = 1.0;        ///< weight of the chosen's negative log-likelihood by token
};

/// CPO (Xu et al. 2024): the pair loss of d = chosen - rejected, plus cpo_alpha times the chosen's
/// mean negative log-likelihood over the step's chosen tokens.
///   sigmoid  -(1-s) log sigmoid(b d) - s log sigmoid(-b d);  hinge max(0, 1 - b d)
///   ipo      (d' - 1/(2b))^2;  simpo  sigmoid's of b d' - gamma (Meng et al. 2024, eq. 6)
/// with d' by token. Metrics as TRL: rewards/*, logps/*, nll_loss.
LossOutput cpo_loss(const ReferenceFreeInputs& inputs, const CpoOptions& options,
                    const DpoTotals& totals);

/// ORPO (Hong et al. 2024, eq. 6 and 7): the chosen's negative log-likelihood by token less beta
/// log sigmoid(log odds ratio), odds = p / (1 - p) of the mean token probability p. The likelihood
/// is the paper's, of the completion alone; TRL counts the prompt's tokens in it too. Metrics as
/// TRL: rewards/*, logps/*, nll_loss, log_odds_chosen, log_odds_ratio.
LossOutput orpo_loss(const ReferenceFreeInputs& inputs, double beta, const DpoTotals& totals);

/// LongRM's reference-free LOGO loss: -log sigmoid(z_w - mean_j z_l^j - gamma), z the mean
/// log-probability times beta. chosen_B: mean log-probabilities [B]; rejected_BV: [B, V].
LossOutput logo_loss(const at::Tensor& chosen_B, const at::Tensor& rejected_BV, double beta,
                     double gamma, double num_rows);

/// KTO (Ethayarajh et al. 2024, eq. 7): with r = log-ratio to the reference and the baseline `kl`
/// (>= 0, no gradient), desirable_weight (1 - sigmoid(beta (r - kl))) for desirable rows and
/// undesirable_weight (1 - sigmoid(beta (kl - r))) for the others; kl undefined: 0 (apo_zero_unpaired:
/// 1 - sigmoid(beta r), sigmoid(beta r)). desirable_B: bool. Metrics as TRL: rewards/{chosen,rejected,
/// margins} (of the call's rows, where both kinds are), logps/*, kl.
LossOutput kto_loss(const at::Tensor& policy_B, const at::Tensor& ref_B,
                    const at::Tensor& desirable_B, double kl, double beta, double desirable_weight,
                    double undesirable_weight, double num_rows);

}  // namespace meed
