#include <ATen/ATen.h>

#include "algorithms/pair_batch.h"
#include "algorithms/reference_logprobs.h"
#include "algorithms/reference_sync.h"
#include "libpolicy/core/error.h"

namespace meed {
namespace {

/// Direct preference optimisation (Rafailov et al. 2023) and its family. Chosen and rejected share
/// their prompt, which stands once in the batch.
class Dpo final : public PairAlgorithm {
 public:
  struct Config {
    DpoOptions loss;
    std::optional<double> ld_alpha;
    double dynamic_beta_w = 0.0, dynamic_beta_k = 0.5;
    int64_t max_length = 1024;
    std::string truncation_mode = "keep_start";
    bool precompute_ref_log_probs = false, use_weighting = false;
    ReferenceSync reference;
    void fields(FieldVisitor& v) {
      v.field("loss_type", loss.loss_type,
              "One or several of sigmoid (DPO), hinge (SLiC), ipo, exo_pair, nca_pair, robust, "
              "bco_pair, sppo_hard, aot, aot_unpaired, apo_zero, apo_down, discopop, sft, "
              "sigmoid_norm.");
      v.field("loss_weights", loss.loss_weights, "A weight for each loss_type; empty: all 1.");
      v.field("beta", loss.beta, "Strength of the pull to the reference (IPO: tau).");
      v.field("label_smoothing", loss.label_smoothing,
              "Probability that a preference is the wrong way round (sigmoid, exo_pair, robust, "
              "aot, aot_unpaired).");
      v.choice("f_divergence_type", loss.f_divergence_type,
               {"reverse_kl", "forward_kl", "js_divergence", "alpha_divergence"},
               "Divergence from the reference that regularises.");
      v.field("f_alpha_divergence_coef", loss.f_alpha_divergence_coef,
              "Alpha of alpha_divergence.");
      v.field("discopop_tau", loss.discopop_tau, "Temperature of discopop's mixture.");
      v.field("ld_alpha", ld_alpha,
              "Weight of tokens beyond the shorter completion's length (LD-DPO); null: 1.");
      v.field("dynamic_beta_w", dynamic_beta_w,
              "MM-DPO: beta becomes beta (1 + w (1 - exp(-k gap))), the gap being the row's "
              "margin; 0: beta itself.");
      v.field("dynamic_beta_k", dynamic_beta_k, "MM-DPO: how fast beta rises with the gap.");
      v.field("max_length", max_length, "Longer rows are cut.");
      v.choice("truncation_mode", truncation_mode, {"keep_start", "keep_end"},
               "Which end of a row that is too long stays.");
      v.field("precompute_ref_log_probs", precompute_ref_log_probs,
              "Ask the reference about all of the data before the first step, then free it.");
      v.field("use_weighting", use_weighting,
              "Weigh each pair by how likely the policy is to give it (WPO).");
      reference.fields(v);
      v.require(!reference.sync_ref_model || !precompute_ref_log_probs, "sync_ref_model",
                "cannot go with precompute_ref_log_probs, which takes the reference as fixed");
      for (const auto& type : loss.loss_type) {
        v.require(!use_weighting || !type.starts_with("aot"), "use_weighting",
                  "cannot weigh the pairs of " + type + ", which sorts them");
      }
      require_dpo_options(v, loss, dynamic_beta_w, dynamic_beta_k);
      v.require(loss.discopop_tau > 0, "discopop_tau", "must be positive");
      v.require(!ld_alpha || (*ld_alpha >= 0 && *ld_alpha <= 1), "ld_alpha",
                "must be in [0, 1], or null");
      v.require(max_length > 1, "max_length", "must be at least 2");
    }
  };

  explicit Dpo(const Config& config)
      : PairAlgorithm("dpo", config.max_length, config.truncation_mode == "keep_start"),
        config_(config) {}

  TrainableModel prepare(TrainingRun& run) override {
    auto model = PairAlgorithm::prepare(run);
    if (config_.precompute_ref_log_probs)
      reference_ = std::make_unique<ReferenceLogprobs>(
          run, policy(), [this](const Example& example) { return encode(example); },
          config_.ld_alpha);
    return model;
  }

  void after_update(int64_t step) override {
    if (config_.reference.is_due(step))
      policy().sync_reference(config_.reference.ref_model_mixup_alpha);
  }

  EncodedRow encode(const Example& example) override {
    auto row = PairAlgorithm::encode(example);
    if (config_.dynamic_beta_w > 0 && !row.margin)
      throw DataError("row " + std::to_string(example.row + 1) +
                      ": dynamic_beta_w needs the column \"margin\": by how much a reward model "
                      "prefers the chosen");
    return row;
  }

  LossOutput loss(std::span<const EncodedRow> rows, const StepTotals& totals) override {
    const PairBatch pairs(rows);
    const auto ref_2B =
        reference_ ? reference_->sums(rows) : policy().with_reference([&](CausalLm& model) {
          return pair_sums(model, pairs, config_.ld_alpha);
        });
    const auto logprobs =
        pair_logprobs(policy().model(), pairs, config_.ld_alpha, config_.use_weighting);
    DpoInputs in{.policy_chosen_B = pairs.chosen(logprobs.sums_2B),
                 .policy_rejected_B = pairs.rejected(logprobs.sums_2B),
                 .ref_chosen_B = pairs.chosen(ref_2B),
                 .ref_rejected_B = pairs.rejected(ref_2B),
                 .chosen_lengths_B = pairs.chosen(pairs.lengths_S),
                 .rejected_lengths_B = pairs.rejected(pairs.lengths_S),
                 .chosen_logprobs_B = pairs.chosen(logprobs.plain_2B),
                 .weights_B = logprobs.weights_B};
    if (config_.dynamic_beta_w > 0) {
      std::vector<float> gaps;
      for (const auto& row : rows) gaps.push_back(static_cast<float>(row.margin.value_or(0.0)));
      in.betas_B = dynamic_beta(at::tensor(gaps), config_.loss.beta, config_.dynamic_beta_w,
                                config_.dynamic_beta_k);
    }
    auto output = dpo_loss(in, config_.loss,
                           {.num_pairs = totals.weight, .num_chosen_tokens = totals.first_tokens});
    merge(output.metrics, logprobs.metrics);
    return output;
  }

 protected:
  bool moves_reference() const override { return config_.reference.sync_ref_model; }

 private:
  Config config_;
  std::unique_ptr<ReferenceLogprobs> reference_;
};

MEED_REGISTER(algorithms, "dpo", Dpo,
              "Direct preference optimisation with every loss of its family.");

}  // namespace
}  // namespace meed
