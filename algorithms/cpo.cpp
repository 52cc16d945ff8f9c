#include <ATen/ATen.h>

#include "algorithms/pair_batch.h"
#include "libpolicy/losses/reference_free.h"

namespace meed {
namespace {

/// What both trainers share: a batch of pairs under the policy alone.
class ReferenceFreeAlgorithm : public PairAlgorithm {
 public:
  using PairAlgorithm::PairAlgorithm;
  LossOutput loss(std::span<const EncodedRow> rows, const StepTotals& totals) final {
    const PairBatch pairs(rows);
    const auto logprobs = pair_logprobs(policy().model(), pairs);
    auto output = pair_loss({.chosen_B = pairs.chosen(logprobs.plain_2B),
                             .rejected_B = pairs.rejected(logprobs.plain_2B),
                             .chosen_lengths_B = pairs.chosen(pairs.lengths_S),
                             .rejected_lengths_B = pairs.rejected(pairs.lengths_S)},
                            {.num_pairs = totals.weight, .num_chosen_tokens = totals.first_tokens});
    merge(output.metrics, logprobs.metrics);
    return output;
  }

 protected:
  virtual LossOutput pair_loss(const ReferenceFreeInputs& in, const DpoTotals& totals) = 0;
};

/// Contrastive preference optimisation and SimPO: DPO without a reference.
class Cpo final : public ReferenceFreeAlgorithm {
 public:
  struct Config {
    CpoOptions loss;
    int64_t max_length = 1024;
    void fields(FieldVisitor& v) {
      v.choice("loss_type", loss.loss_type, {"sigmoid", "hinge", "ipo", "simpo"},
               "sigmoid: CPO; hinge: SLiC; ipo; simpo: by token, with a target margin.");
      v.field("beta", loss.beta, "Scale of the log-probabilities' difference (IPO: tau).");
      v.field("label_smoothing", loss.label_smoothing,
              "Probability that a preference is the wrong way round (sigmoid, simpo).");
      v.field("simpo_gamma", loss.simpo_gamma, "Target margin of simpo.");
      v.field("cpo_alpha", loss.cpo_alpha,
              "Weight of the chosen's negative log-likelihood; 0 for SimPO alone.");
      v.field("max_length", max_length, "Longer rows are cut.");
      v.require(loss.beta > 0, "beta", "must be positive");
      v.require(loss.label_smoothing >= 0 && loss.label_smoothing < 0.5, "label_smoothing",
                "must be in [0, 0.5)");
      v.require(loss.cpo_alpha >= 0, "cpo_alpha", "must not be negative");
      v.require(max_length > 1, "max_length", "must be at least 2");
    }
  };
  explicit Cpo(const Config& config)
      : ReferenceFreeAlgorithm("cpo", config.max_length, /*keep_start=*/true), config_(config) {}

 private:
  LossOutput pair_loss(const ReferenceFreeInputs& in, const DpoTotals& totals) override {
    return cpo_loss(in, config_.loss, totals);
  }
  Config config_;
};

/// Odds ratio preference optimisation (Hong et al. 2024).
class Orpo final : public ReferenceFreeAlgorithm {
 public:
  struct Config {
    double beta = 0.1;
    int64_t max_length = 1024;
    void fields(FieldVisitor& v) {
      v.field("beta", beta, "Weight of the odds ratio's term (the paper's lambda).");
      v.field("max_length", max_length, "Longer rows are cut.");
      v.require(beta > 0, "beta", "must be positive");
      v.require(max_length > 1, "max_length", "must be at least 2");
    }
  };
  explicit Orpo(const Config& config)
      : ReferenceFreeAlgorithm("orpo", config.max_length, /*keep_start=*/true), config_(config) {}

 private:
  LossOutput pair_loss(const ReferenceFreeInputs& in, const DpoTotals& totals) override {
    return orpo_loss(in, config_.beta, totals);
  }
  Config config_;
};

MEED_REGISTER(algorithms, "cpo", Cpo,
              "Preference optimisation without a reference: CPO and SimPO.");
MEED_REGISTER(algorithms, "orpo", Orpo, "Odds ratio preference optimisation.");

}  // namespace
}  // namespace meed
