#include <ATen/ATen.h>

#include "algorithms/offline_trainer.h"
#include "algorithms/pair_batch.h"
#include "algorithms/policy.h"
#include "algorithms/reward_inspection.h"
#include "algorithms/training_run.h"
#include "libpolicy/core/error.h"
#include "libpolicy/losses/reference_free.h"
#include "libpolicy/models/token_logprobs.h"
#include "libpolicy/text/chat_template.h"
#include "libreward/curation/wrapped_dataset.h"

namespace meed {
namespace {

/// LongRM's second stage: a generative judge learns to find one judgement of a response more likely
/// than the mean of several worse ones (LOGO), without a reference model. Rows have a prompt, the
/// better judgement as `chosen` and the worse ones as `completions` (or one as `rejected`).
class Logo final : public OfflineAlgorithm {
 public:
  struct Config {
    double beta = 0.5, gamma = 2.5;
    int64_t num_negatives = 2, max_length = 4096;
    std::string group_by;
    void fields(FieldVisitor& v) {
      v.field("beta", beta, "What mean log-probabilities are multiplied by.");
      v.field("gamma", gamma, "Margin between the better judgement and the others.");
      v.field("num_negatives", num_negatives, "Worse judgements of a row that are used.");
      v.field("max_length", max_length, "Longer rows lose the start of their prompt.");
      v.field("group_by", group_by, "Column by whose values eval_accuracy is split.");
      v.require(beta > 0, "beta", "must be positive");
      v.require(num_negatives > 0, "num_negatives", "must be positive");
      v.require(max_length > 1, "max_length", "must be at least 2");
    }
  };
  explicit Logo(const Config& config) : config_(config) {}

  TrainableModel prepare(TrainingRun& run) override {
    tokenizer_ = &run.tokenizer();
    policy_ = std::make_unique<Policy>(run.recipe(), run.seed());
    return policy_->trainable(run);
  }

  /// completion_ids: the better judgement, then the worse ones.
  EncodedRow encode(const Example& example) override {
    const auto where = "row " + std::to_string(example.row + 1) + ": ";
    if (example.prompt.empty() || example.chosen.empty())
      throw DataError(where + "logo needs \"prompt\" and \"chosen\", neither of them empty");
    std::vector<Content> worse;
    for (const auto& text : example.completions) worse.push_back(side_of(example.chosen, text));
    if (worse.empty() && !example.rejected.empty()) worse.push_back(example.rejected);
    if (static_cast<int64_t>(worse.size()) < config_.num_negatives)
      throw DataError(where + "logo needs " + std::to_string(config_.num_negatives) +
                      " worse judgements (\"completions\"), there are " +
                      std::to_string(worse.size()) + "; lower num_negatives or add some");
    worse.resize(static_cast<size_t>(config_.num_negatives));
    auto chosen = encode_pair(*tokenizer_, example.prompt, example.chosen);
    EncodedRow row{.prompt_ids = std::move(chosen.prompt_ids)};
    row.completion_ids.push_back(std::move(chosen.completion_ids));
    for (const auto& content : worse) {
      row.completion_ids.push_back(
          encode_pair(*tokenizer_, example.prompt, content).completion_ids);
      if (row.completion_ids.back() == row.completion_ids.front())
        throw DataError(where + "a worse judgement is the same as \"chosen\"");
    }
    row.truncated = truncate(row, config_.max_length, /*keep_start=*/false);
    if (row.prompt_ids.empty()) throw DataError(where + "max_length leaves nothing of the prompt");
    if (config_.group_by.empty()) return row;
    const auto found = example.extra.find(config_.group_by);
    if (found == example.extra.end())
      throw DataError(where + "column \"" + config_.group_by + "\" (group_by) is missing");
    row.group = found->second;
    return row;
  }

  double weight(const EncodedRow&) const override { return 1.0; }

  LossOutput loss(std::span<const EncodedRow> rows, const StepTotals& totals) override {
    const CompletionBatch batch(rows);
    const auto tokens = token_logprobs(policy_->model(), batch.batch, batch.selected_M);
    const int64_t S = batch.lengths_S.size(0), B = batch.num_rows;
    const auto sums_S = at::zeros({S}).index_add(0, batch.sequence_M, tokens.logprobs_M);
    const auto means_VB = (sums_S / batch.lengths_S.clamp_min(1.0)).view({S / B, B});
    const auto rejected_BV = means_VB.slice(0, 1).t();
    if (evaluating_) inspect(means_VB.detach(), rows);
    return logo_loss(means_VB[0], rejected_BV, config_.beta, config_.gamma, totals.weight);
  }

  void begin_evaluation() override {
    evaluating_ = true;
    inspected_.clear();
  }
  void end_evaluation(TrainingRun& run, int64_t step) override {
    evaluating_ = false;
    record_inspection(run, step, inspected_, {});
  }

 private:
  /// The better judgement against the likeliest of the worse ones.
  void inspect(const at::Tensor& means_VB, std::span<const EncodedRow> rows) {
    const auto worst_B = means_VB.slice(0, 1).amax(/*dim=*/0);
    for (size_t i = 0; i < rows.size(); ++i) {
      const double chosen = means_VB[0][static_cast<int64_t>(i)].item<double>();
      const double rejected = worst_B[static_cast<int64_t>(i)].item<double>();
      inspected_.push_back({.logit = config_.beta * (chosen - rejected),
                            .chosen = chosen,
                            .rejected = rejected,
                            .chosen_tokens = static_cast<int64_t>(rows[i].prompt_ids.size()),
                            .rejected_tokens = static_cast<int64_t>(rows[i].prompt_ids.size()),
                            .group = rows[i].group});
    }
  }

  Config config_;
  const Tokenizer* tokenizer_ = nullptr;
  std::unique_ptr<Policy> policy_;
  bool evaluating_ = false;
  std::vector<InspectedPair> inspected_;
};

MEED_REGISTER(algorithms, "logo", Logo,
              "LongRM's reference-free objective of one better and several worse judgements.");

}  // namespace
}  // namespace meed
