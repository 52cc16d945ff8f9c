#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>

#include "algorithms/pair_batch.h"
#include "algorithms/reference_sync.h"
#include "algorithms/training_run.h"
#include "libpolicy/core/error.h"
#include "libpolicy/losses/reference_free.h"
#include "libpolicy/models/token_logprobs.h"
#include "libpolicy/text/chat_template.h"

namespace meed {
namespace {

/// Log-probability of each row's completion, [B].
at::Tensor sums(CausalLm& model, const CompletionBatch& rows) {
  return at::zeros({rows.num_rows})
      .index_add(0, rows.sequence_M, token_logprobs(model, rows.batch, rows.selected_M).logprobs_M);
}

/// Kahneman-Tversky optimisation (Ethayarajh et al. 2024) from rows that are each desirable or not.
/// The baseline is the mean log-ratio of prompts with another row's completion, over all ranks.
class Kto final : public OfflineAlgorithm {
 public:
  struct Config {
    std::string loss_type = "kto";
    double beta = 0.1;
    double desirable_weight = 1.0, undesirable_weight = 1.0;
    int64_t max_length = 1024;
    ReferenceSync reference;
    void fields(FieldVisitor& v) {
      v.choice("loss_type", loss_type, {"kto", "apo_zero_unpaired"},
               "kto: with the KL baseline; apo_zero_unpaired: without.");
      v.field("beta", beta, "Strength of the pull to the reference.");
      v.field("desirable_weight", desirable_weight, "Weight of desirable rows.");
      v.field("undesirable_weight", undesirable_weight, "Weight of undesirable rows.");
      v.field("max_length", max_length, "Longer rows are cut.");
      reference.fields(v);
      v.require(beta > 0, "beta", "must be positive");
      v.require(desirable_weight >= 0 && undesirable_weight >= 0, "undesirable_weight",
                "and desirable_weight must not be negative");
      v.require(max_length > 1, "max_length", "must be at least 2");
    }
  };
  explicit Kto(const Config& config) : config_(config) {}

  TrainableModel prepare(TrainingRun& run) override {
    run_ = &run;
    policy_ = std::make_unique<Policy>(run.recipe(), run.seed());
    return policy_->trainable(run, config_.reference.sync_ref_model);
  }

  void after_update(int64_t step) override {
    if (config_.reference.is_due(step))
      policy_->sync_reference(config_.reference.ref_model_mixup_alpha);
  }

  EncodedRow encode(const Example& example) override {
    const auto where = "row " + std::to_string(example.row + 1) + ": ";
    if (!example.label)
      throw DataError(where + "kto needs \"label\", true for a desirable completion");
    if (example.prompt.empty() || example.completion.empty())
      throw DataError(where + "kto needs \"prompt\" and \"completion\", neither of them empty");
    auto pair = encode_pair(run_->tokenizer(), example.prompt, example.completion);
    EncodedRow row{.prompt_ids = std::move(pair.prompt_ids),
                   .completion_ids = {std::move(pair.completion_ids)},
                   .desirable = *example.label};
    row.truncated = truncate(row, config_.max_length, /*keep_start=*/true);
    return row;
  }

  double weight(const EncodedRow&) const override { return 1.0; }

  /// The baseline of the step.
  void begin_step(std::span<const EncodedRow> rows) override {
    if (config_.loss_type != "kto") return;
    at::NoGradGuard no_grad;
    // Row i's prompt with the completion of the row kShift places on in the global batch, which
    // stands on this rank too where kShift is a multiple of the number of ranks.
    constexpr size_t kShift = 8;
    const auto ranks = static_cast<size_t>(run_->comm().size());
    const size_t shift = kShift % ranks == 0 ? kShift / ranks : 1;
    std::vector<EncodedRow> mismatched(rows.begin(), rows.end());
    for (size_t i = 0; i < rows.size(); ++i) {
      size_t other = (i + shift) % rows.size();
      if (other == i) other = (i + 1) % rows.size();
      mismatched[i].completion_ids = rows[other].completion_ids;
    }
    double total = 0.0;
    for (size_t first = 0; first < mismatched.size(); first += kRowsAtOnce) {
      const auto part = std::span<const EncodedRow>(mismatched)
                            .subspan(first, std::min(kRowsAtOnce, mismatched.size() - first));
      const CompletionBatch batch(part);
      const auto ref_B =
          policy_->with_reference([&](CausalLm& model) { return sums(model, batch); });
      total += (sums(policy_->model(), batch) - ref_B).sum().item<double>();
    }
    at::Tensor totals = at::tensor({total, static_cast<double>(rows.size())}, at::kDouble);
    run_->comm().all_reduce(totals, ReduceOp::kSum);
    baseline_ = std::max(0.0, totals[0].item<double>() / std::max(1.0, totals[1].item<double>()));
  }

  LossOutput loss(std::span<const EncodedRow> rows, const StepTotals& totals) override {
    const CompletionBatch batch(rows);
    const auto ref_B = policy_->with_reference([&](CausalLm& model) { return sums(model, batch); });
    std::vector<int64_t> desirable;
    for (const auto& row : rows) desirable.push_back(row.desirable);
    return kto_loss(sums(policy_->model(), batch), ref_B,
                    at::tensor(desirable, at::kLong).to(at::kBool), baseline_, config_.beta,
                    config_.desirable_weight, config_.undesirable_weight, totals.weight);
  }

 private:
  static constexpr size_t kRowsAtOnce = 8;
  Config config_;
  TrainingRun* run_ = nullptr;
  std::unique_ptr<Policy> policy_;
  double baseline_ = 0.0;
};

MEED_REGISTER(algorithms, "kto", Kto,
              "Kahneman-Tversky optimisation from completions that are desirable or not.");

}  // namespace
}  // namespace meed
