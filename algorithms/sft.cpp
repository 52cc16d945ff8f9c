#include <ATen/ATen.h>

#include <algorithm>

#include "algorithms/offline_trainer.h"
#include "algorithms/policy.h"
#include "algorithms/training_run.h"
#include "libpolicy/core/error.h"
#include "libpolicy/losses/sft.h"
#include "libpolicy/models/token_logprobs.h"
#include "libpolicy/text/assistant_mask.h"
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
    bool assistant_only_loss = false;
    std::string truncation_mode = "keep_start";
    void fields(FieldVisitor& v) {
      v.field("max_length", max_length, "Longer rows are cut.");
      v.choice("completion_only_loss", completion_only_loss, {"auto", "true", "false"},
               "true: train on completions only; false: on prompts too; auto: completions where a "
               "row has a prompt.");
      v.field(
          "assistant_only_loss", assistant_only_loss,
          "Train on the assistant's turns of a conversation only: on the {% generation %} blocks "
          "of the chat template, or on whole turns where it has none.");
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
    if (config_.assistant_only_loss) add_assistant_mask(example, row);
    const bool keep_start = config_.truncation_mode == "keep_start";
    row.truncated = truncate(row, config_.max_length, keep_start);
    if (row.truncated && config_.assistant_only_loss) {
      const auto cut = static_cast<std::ptrdiff_t>(row.assistant_mask.size() - num_tokens(row));
      auto& mask = row.assistant_mask;
      mask.erase(keep_start ? mask.end() - cut : mask.begin(),
                 keep_start ? mask.end() : mask.begin() + cut);
    }
    return row;
  }

  double weight(const EncodedRow& row) const override {
    return static_cast<double>(targets(row).size());
  }

  LossOutput loss(std::span<const EncodedRow> rows, const StepTotals& totals) override {
    PackedBatchBuilder builder;
    std::vector<int64_t> selected;
    for (const auto& row : rows) {
      const int64_t first = builder.num_tokens();
      const int64_t prefix = row.prompt_ids.empty() ? -1 : builder.add(row.prompt_ids);
      if (!row.completion_ids[0].empty()) builder.add(row.completion_ids[0], prefix);
      for (const int64_t n : targets(row)) selected.push_back(first + n);
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
  static size_t num_tokens(const EncodedRow& row) {
    return row.prompt_ids.size() + row.completion_ids[0].size();
  }

  /// Places in prompt and completion joined that the loss is taken over. The first token of all has
  /// nothing before it.
  std::vector<int64_t> targets(const EncodedRow& row) const {
    std::vector<int64_t> places;
    const size_t first = train_on_prompt() ? 1 : std::max<size_t>(1, row.prompt_ids.size());
    for (size_t i = first; i < num_tokens(row); ++i)
      if (row.assistant_mask.empty() || row.assistant_mask[i] != 0)
        places.push_back(static_cast<int64_t>(i));
    return places;
  }

  void add_assistant_mask(const Example& example, EncodedRow& row) const {
    const auto fail = [&](const std::string& what) {
      throw DataError("row " + std::to_string(example.row + 1) + ": assistant_only_loss: " + what);
    };
    Content conversation = example.text;
    if (!example.completion.empty()) {
      conversation = example.prompt;
      conversation.conversational = example.completion.conversational;
      conversation.messages.insert(conversation.messages.end(), example.completion.messages.begin(),
                                   example.completion.messages.end());
    }
    if (!conversation.conversational) fail("the row is not a conversation");
    auto masked = encode_assistant_mask(*tokenizer_, conversation);
    auto whole = row.prompt_ids;
    whole.insert(whole.end(), row.completion_ids[0].begin(), row.completion_ids[0].end());
    if (masked.ids != whole)
      fail("the chat template renders prompt and completion otherwise than the whole");
    if (std::find(masked.assistant.begin(), masked.assistant.end(), 1) == masked.assistant.end())
      fail("the conversation has no text of the assistant");
    row.assistant_mask = std::move(masked.assistant);
  }

  bool train_on_prompt() const { return config_.completion_only_loss == "false"; }

  Config config_;
  const Tokenizer* tokenizer_ = nullptr;
  std::unique_ptr<Policy> policy_;
};

MEED_REGISTER(algorithms, "sft", Sft,
              "Supervised fine-tuning on texts, conversations or prompts with completions.");

}  // namespace
}  // namespace meed
