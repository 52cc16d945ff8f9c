#include <ATen/ATen.h>

#include "algorithms/offline_trainer.h"
#include "algorithms/policy.h"
#include "algorithms/training_run.h"
#include "libpolicy/core/error.h"
#include "libpolicy/losses/dpo.h"
#include "libpolicy/models/token_logprobs.h"
#include "libpolicy/text/chat_template.h"

namespace meed {
namespace {

/// Direct preference optimisation (Rafailov et al. 2023) with the sigmoid, hinge (SLiC) and IPO
/// losses. Chosen and rejected share their prompt, which stands once in the batch.
class Dpo final : public OfflineAlgorithm {
 public:
  struct Config {
    std::string loss_type = "sigmoid";
    double beta = 0.1;
    double label_smoothing = 0.0;
    int64_t max_length = 1024;
    std::string truncation_mode = "keep_start";
    void fields(FieldVisitor& v) {
      v.choice("loss_type", loss_type, {"sigmoid", "hinge", "ipo"},
               "sigmoid: DPO; hinge: SLiC; ipo: identity preference optimisation.");
      v.field("beta", beta, "Strength of the pull to the reference (IPO: tau).");
      v.field("label_smoothing", label_smoothing,
              "Probability that a preference is the wrong way round (sigmoid only).");
      v.field("max_length", max_length, "Longer rows are cut.");
      v.choice("truncation_mode", truncation_mode, {"keep_start", "keep_end"},
               "Which end of a row that is too long stays.");
      v.require(beta > 0, "beta", "must be positive");
      v.require(label_smoothing >= 0 && label_smoothing < 0.5, "label_smoothing",
                "must be in [0, 0.5)");
      v.require(max_length > 1, "max_length", "must be at least 2");
    }
  };

  explicit Dpo(const Config& config) : config_(config) {}

  TrainableModel prepare(TrainingRun& run) override {
    tokenizer_ = &run.tokenizer();
    policy_ = std::make_unique<Policy>(run.recipe(), run.seed());
    return policy_->trainable(run);
  }

  EncodedRow encode(const Example& example) override {
    auto row = encode_preference(*tokenizer_, example, "dpo");
    row.truncated = truncate(row, config_.max_length, config_.truncation_mode == "keep_start");
    if (row.prompt_ids.empty())
      throw DataError("row " + std::to_string(example.row + 1) +
                      ": dpo needs a prompt that chosen and rejected share");
    return row;
  }

  double weight(const EncodedRow&) const override { return 1.0; }

  LossOutput loss(std::span<const EncodedRow> rows, double normalizer) override {
    PackedBatchBuilder builder;
    std::vector<int64_t> selected, sequence;
    for (size_t r = 0; r < rows.size(); ++r) {
      const int64_t prompt = builder.add(rows[r].prompt_ids);
      for (size_t side = 0; side < 2; ++side) {
        const int64_t first = builder.num_tokens();
        if (!rows[r].completion_ids[side].empty())
          builder.add(rows[r].completion_ids[side], prompt);
        for (int64_t n = first; n < builder.num_tokens(); ++n) {
          selected.push_back(n);
          sequence.push_back(static_cast<int64_t>(side * rows.size() + r));
        }
      }
    }
    const auto batch = builder.build();
    const auto selected_M = at::tensor(selected, at::kLong);
    const auto sequence_M = at::tensor(sequence, at::kLong);
    const auto pairs = static_cast<int64_t>(rows.size());
    const auto sum_rows = [&](const at::Tensor& values_M) {
      return at::zeros({2 * pairs}, at::kFloat).index_add(0, sequence_M, values_M);
    };
    const auto ref_2B = policy_->with_reference([&](CausalLm& model) {
      return sum_rows(token_logprobs(model, batch, selected_M).logprobs_M);
    });
    const auto tokens = token_logprobs(policy_->model(), batch, selected_M, /*temperature=*/1.0,
                                       /*with_entropy=*/true);
    const auto policy_2B = sum_rows(tokens.logprobs_M);
    const auto lengths_2B = sum_rows(at::ones({selected_M.numel()}));
    auto output = dpo_loss({.policy_chosen_B = policy_2B.narrow(0, 0, pairs),
                            .policy_rejected_B = policy_2B.narrow(0, pairs, pairs),
                            .ref_chosen_B = ref_2B.narrow(0, 0, pairs),
                            .ref_rejected_B = ref_2B.narrow(0, pairs, pairs),
                            .chosen_lengths_B = lengths_2B.narrow(0, 0, pairs),
                            .rejected_lengths_B = lengths_2B.narrow(0, pairs, pairs)},
                           {.loss_type = config_.loss_type,
                            .beta = config_.beta,
                            .label_smoothing = config_.label_smoothing},
                           normalizer);
    const double count = static_cast<double>(selected.size());
    output.metrics["entropy"] = {tokens.entropy_M.sum().item<double>(), count};
    if (tokens.correct_M.defined())
      output.metrics["mean_token_accuracy"] = {tokens.correct_M.sum().item<double>(), count};
    return output;
  }

 private:
  Config config_;
  const Tokenizer* tokenizer_ = nullptr;
  std::unique_ptr<Policy> policy_;
};

MEED_REGISTER(algorithms, "dpo", Dpo,
              "Direct preference optimisation: sigmoid, hinge (SLiC) and IPO losses.");

}  // namespace
}  // namespace meed
