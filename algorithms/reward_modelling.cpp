#include <ATen/ATen.h>

#include "algorithms/offline_trainer.h"
#include "algorithms/policy.h"
#include "algorithms/training_run.h"
#include "libpolicy/core/error.h"
#include "libreward/losses/bradley_terry.h"
#include "libreward/models/sequence_classifier.h"

namespace meed {
namespace {

/// Trains a scalar reward model on preferences with the Bradley-Terry loss.
class RewardModelling final : public OfflineAlgorithm {
 public:
  struct Config {
    int64_t max_length = 1024;
    std::optional<double> center_rewards_coefficient;
    double margin = 0.0;
    void fields(FieldVisitor& v) {
      v.field("max_length", max_length, "Longer rows are cut; the prompt loses its start first.");
      v.field("center_rewards_coefficient", center_rewards_coefficient,
              "Weight of the mean squared sum of a pair's rewards, which centres them (Eisenstein "
              "et al. 2023); null: none.");
      v.field("margin", margin, "Margin of rows that have none of their own.");
      v.require(max_length > 1, "max_length", "must be at least 2");
      v.require(!center_rewards_coefficient || *center_rewards_coefficient >= 0,
                "center_rewards_coefficient", "must not be negative");
    }
  };

  explicit RewardModelling(const Config& config) : config_(config) {}

  TrainableModel prepare(TrainingRun& run) override {
    tokenizer_ = &run.tokenizer();
    const auto& recipe = run.recipe();
    if (recipe.lora.r > 0)
      throw ConfigError("lora.r: reward_modelling trains all weights; leave the lora section out");
    model_ = SequenceClassifier::load(recipe.model.path,
                                      {.dtype = parse_dtype(recipe.model.dtype), .trainable = true},
                                      /*num_labels=*/1, run.seed());
    model_->backbone().set_activation_checkpointing(recipe.model.gradient_checkpointing);
    const auto save = [this, &run](const std::filesystem::path& folder, at::ScalarType dtype) {
      model_->save(folder, &run.tokenizer(), dtype);
    };
    return {.parameters = model_->parameters().trainable(),
            .sync = [this] { model_->sync_compute_weights(); },
            .save =
                [=, &run](const std::filesystem::path& folder) {
                  save(folder, parse_dtype(run.recipe().model.export_dtype));
                },
            .save_exact = [=](const std::filesystem::path& folder) { save(folder, at::kFloat); },
            .load =
                [this](const std::filesystem::path& folder) {
                  load_parameters(folder, model_->parameters());
                }};
  }

  EncodedRow encode(const Example& example) override {
    auto row = encode_preference(*tokenizer_, example, "reward_modelling");
    row.truncated = truncate(row, config_.max_length, /*keep_start=*/false);
    return row;
  }

  double weight(const EncodedRow&) const override { return 1.0; }

  LossOutput loss(std::span<const EncodedRow> rows, const StepTotals& totals) override {
    PackedBatchBuilder builder;
    std::vector<int64_t> last(rows.size() * 2);
    std::vector<float> margins;
    for (size_t r = 0; r < rows.size(); ++r) {
      const auto& row = rows[r];
      const int64_t prompt = row.prompt_ids.empty() ? -1 : builder.add(row.prompt_ids);
      for (size_t side = 0; side < 2; ++side) {
        // A completion that truncation left empty is scored at the prompt's end.
        if (!row.completion_ids[side].empty()) builder.add(row.completion_ids[side], prompt);
        last[side * rows.size() + r] = builder.num_tokens() - 1;
      }
      margins.push_back(static_cast<float>(row.margin.value_or(config_.margin)));
    }
    const auto pairs = static_cast<int64_t>(rows.size());
    const auto rewards_2B =
        model_->forward(builder.build(), at::tensor(last, at::kLong)).squeeze(-1);
    return bradley_terry_loss(rewards_2B.narrow(0, 0, pairs), rewards_2B.narrow(0, pairs, pairs),
                              at::tensor(margins), config_.center_rewards_coefficient.value_or(0.0),
                              totals.weight);
  }

 private:
  Config config_;
  const Tokenizer* tokenizer_ = nullptr;
  std::unique_ptr<SequenceClassifier> model_;
};

MEED_REGISTER(algorithms, "reward_modelling", RewardModelling,
              "A scalar reward model from preferences, by Bradley-Terry.");

}  // namespace
}  // namespace meed
