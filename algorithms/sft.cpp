#include <ATen/ATen.h>

#include "algorithms/offline_trainer.h"
#include "algorithms/policy.h"
#include "algorithms/training_run.h"
#include "libpolicy/core/error.h"
#include "libpolicy/losses/sft.h"
#include "libpolicy/models/token_logprobs.h"
#include "libpolicy/text/chat_template.h"

namespace meed {
namespace {

/// Supervised fine-tuning: the mean negative log-likelihood of the target tokens of the global
/// batch.
class Sft final : public OfflineAlgorithm {
 public:
  struct Config {
    int64_t max_length = 1024;
    std::string completion_only_loss = "auto";
    std::string truncation_mode = "keep_start";
    void fields(FieldVisitor& v) {
      v.field("max_length", max_length, "Longer rows are cut.");
      v.choice("completion_only_loss", completion_only_loss, {"auto", "true", "false"},
               "true: train on completions only; false: on prompts too; auto: completions where a "
               "row has a prompt.");
      v.choice("truncation_mode", truncation_mode, {"keep_start", "keep_end"},
               "Which end of a row that is too long stays.");
      v.require(max_length > 1, "max_length", "must be at least 2");
    }
  };

  explicit Sft(const Config& config) : config_(config) {}

  TrainableModel prepare(TrainingRun& run) override {
    tokenizer_ = &run.tokenizer();
    policy_ = std::make_unique<Policy>(run.recipe(), run.seed());
    return policy_->trainable(run);
  }

  EncodedRow encode(const Example& example) override {
    EncodedRow row;
    if (!example.completion.empty()) {
      auto pair = encode_pair(*tokenizer_, example.prompt, example.completion);
      row.prompt_ids = std::move(pair.prompt_ids);
      row.completion_ids.push_back(std::move(pair.completion_ids));
    } else if (!example.text.empty()) {
      row.completion_ids.push_back(encode_text(*tokenizer_, example.text));
    } else {
      throw DataError("row " + std::to_string(example.row + 1) +
                      ": sft needs \"text\", \"messages\" or \"prompt\" and \"completion\"");
    }
    row.truncated = truncate(row, config_.max_length, config_.truncation_mode == "keep_start");
    return row;
  }

  double weight(const EncodedRow& row) const override {
    double targets = static_cast<double>(row.completion_ids[0].size());
    if (row.prompt_ids.empty())
      return std::max(0.0, targets - 1);  // the first token has nothing before it
    if (train_on_prompt()) targets += static_cast<double>(row.prompt_ids.size()) - 1;
    return targets;
  }

  LossOutput loss(std::span<const EncodedRow> rows, const StepTotals& totals) override {
    PackedBatchBuilder builder;
    std::vector<int64_t> selected;
    for (const auto& row : rows) {
      int64_t first = builder.num_tokens();
      int64_t prefix = -1;
      if (!row.prompt_ids.empty()) {
        prefix = builder.add(row.prompt_ids);
        if (!train_on_prompt()) first = builder.num_tokens();
      }
      if (!row.completion_ids[0].empty()) builder.add(row.completion_ids[0], prefix);
      const bool has_no_predecessor = row.prompt_ids.empty() || train_on_prompt();
      for (int64_t n = first + has_no_predecessor; n < builder.num_tokens(); ++n)
        selected.push_back(n);
    }
    const auto selected_M = at::tensor(selected, at::kLong);
    const auto tokens = token_logprobs(policy_->model(), builder.build(), selected_M,
                                       /*temperature=*/1.0, /*with_entropy=*/true);
    auto output = sft_loss(tokens.logprobs_M, totals.weight);
    const double count = static_cast<double>(selected.size());
    output.metrics["entropy"] = {tokens.entropy_M.sum().item<double>(), count};
    if (tokens.correct_M.defined())
      output.metrics["mean_token_accuracy"] = {tokens.correct_M.sum().item<double>(), count};
    return output;
  }

 private:
  bool train_on_prompt() const { return config_.completion_only_loss == "false"; }

  Config config_;
  const Tokenizer* tokenizer_ = nullptr;
  std::unique_ptr<Policy> policy_;
};

MEED_REGISTER(algorithms, "sft", Sft,
              "Supervised fine-tuning on texts, conversations or prompts with completions.");

}  // namespace
}  // namespace meed
