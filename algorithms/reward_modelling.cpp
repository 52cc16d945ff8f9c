#include <ATen/ATen.h>

#include <charconv>
#include <cmath>

#include "algorithms/offline_trainer.h"
#include "algorithms/policy.h"
#include "algorithms/training_run.h"
#include "libpolicy/core/error.h"
#include "libpolicy/text/chat_template.h"
#include "libreward/losses/bradley_terry.h"
#include "libreward/losses/mixture.h"
#include "libreward/losses/preference_embedding.h"
#include "libreward/losses/regression.h"
#include "libreward/models/reward_model.h"

namespace meed {
namespace {

/// Trains a reward model: a backbone with any head of reward_heads(), by any of its losses, on
/// preferences or on labelled completions.
class RewardModelling final : public OfflineAlgorithm {
 public:
  struct Config {
    std::optional<ConfigNode> head;
    std::string pooling = "last";
    std::string loss_type = "auto";
    int64_t max_length = 1024;
    std::optional<double> center_rewards_coefficient;
    double margin = 0.0, label_smoothing = 0.0;
    double gate_entropy_coef = 0.5;
    bool freeze_backbone = false;
    std::vector<std::string> label_columns;
    void fields(FieldVisitor& v) {
      v.component("head", head, reward_heads(), "What stands on the backbone; null: linear.");
      v.choice("pooling", pooling, {"last", "mean", "prompt_end"},
               "What the head reads: the last token, the mean of all, or the prompt's end.");
      v.choice("loss_type", loss_type,
               {"auto", "bradley_terry", "margin", "scaled", "mixture", "preference_embedding",
                "regression", "pair_and_regression"},
               "auto: what the head is made for. bradley_terry; margin and scaled: the column "
               "margin is the preference's strength (HelpSteer2-Preference); mixture (MiCRo); "
               "preference_embedding (GPM); regression on label_columns; or both on pairs.");
      v.field("max_length", max_length, "Longer rows are cut; the prompt loses its start first.");
      v.field("center_rewards_coefficient", center_rewards_coefficient,
              "Weight of the mean squared sum of a pair's rewards, which centres them (Eisenstein "
              "et al. 2023); null: none.");
      v.field("margin", margin, "Margin of rows that have none of their own.");
      v.field("label_smoothing", label_smoothing,
              "Probability that a preference is the wrong way round (bradley_terry).");
      v.field("gate_entropy_coef", gate_entropy_coef, "mixture: pull of the router to even gates.");
      v.field("freeze_backbone", freeze_backbone, "Train the head alone.");
      v.field("label_columns", label_columns,
              "regression: columns with the labels of the head's outputs, in order; an empty cell "
              "is a missing label.");
      v.require(max_length > 1, "max_length", "must be at least 2");
      v.require(!center_rewards_coefficient || *center_rewards_coefficient >= 0,
                "center_rewards_coefficient", "must not be negative");
      v.require(label_smoothing >= 0 && label_smoothing < 0.5, "label_smoothing",
                "must be in [0, 0.5)");
      v.require(gate_entropy_coef >= 0, "gate_entropy_coef", "must not be negative");
      v.require(loss_type.find("regression") == std::string::npos || !label_columns.empty(),
                "label_columns", "must name the columns of the labels");
    }
  };

  explicit RewardModelling(const Config& config) : config_(config) {
    const auto head = config.head ? reward_heads().name_of(*config.head) : "linear";
    loss_type_ = config.loss_type;
    if (loss_type_ == "auto")
      loss_type_ = head == "mixture" || head == "preference_embedding" ? head
                   : head == "attributes"                             ? "regression"
                                                                      : "bradley_terry";
    if ((loss_type_ == "mixture" || loss_type_ == "preference_embedding") && loss_type_ != head)
      throw ConfigError("algorithm.loss_type: " + loss_type_ + " needs head: {type: " + loss_type_ +
                        "}");
    if (loss_type_ == "regression" && config.label_columns.empty())
      throw ConfigError("algorithm.label_columns: regression needs the columns of the labels");
  }

  TrainableModel prepare(TrainingRun& run) override {
    tokenizer_ = &run.tokenizer();
    const auto& recipe = run.recipe();
    if (recipe.lora.r > 0)
      throw ConfigError("lora.r: reward_modelling trains all weights; leave the lora section out");
    const RewardModel::Fresh fresh{config_.head, config_.pooling, run.seed()};
    model_ = RewardModel::load(
        recipe.model.path, {.dtype = parse_dtype(recipe.model.dtype), .trainable = true}, &fresh);
    model_->backbone().set_activation_checkpointing(recipe.model.gradient_checkpointing);
    if (config_.freeze_backbone) model_->backbone().parameters().set_requires_grad(false);
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
    EncodedRow row;
    if (loss_type_ == "regression") {
      if (example.completion.empty())
        throw DataError("row " + std::to_string(example.row + 1) +
                        ": regression needs \"completion\", not empty");
      auto pair = encode_pair(*tokenizer_, example.prompt, example.completion);
      row.prompt_ids = std::move(pair.prompt_ids);
      row.completion_ids = {std::move(pair.completion_ids)};
    } else {
      row = encode_preference(*tokenizer_, example, "reward_modelling");
    }
    if (loss_type_.find("regression") != std::string::npos)
      for (const auto& name : config_.label_columns) row.labels.push_back(label(example, name));
    row.truncated = truncate(row, config_.max_length, /*keep_start=*/false);
    return row;
  }

  double weight(const EncodedRow& row) const override {
    if (loss_type_ != "regression") return 1.0;
    double count = 0.0;
    for (const double label : row.labels) count += label != kMissingLabel;
    return count;
  }

  LossOutput loss(std::span<const EncodedRow> rows, const StepTotals& totals) override {
    std::vector<RewardModel::Row> texts;
    for (const auto& row : rows) {
      auto& text = texts.emplace_back(RewardModel::Row{row.prompt_ids, {}});
      for (const auto& ids : row.completion_ids) text.completions.emplace_back(ids);
    }
    const auto output = model_->forward(texts);
    if (loss_type_ == "regression") return regression(output.outputs_BK, rows, totals.weight);
    // Chosen and rejected of a row stand side by side.
    return pair_loss(every(output, 0, 2), every(output, 1, 2), rows, totals.weight);
  }

 private:
  LossOutput pair_loss(const HeadOutput& chosen, const HeadOutput& rejected,
                       std::span<const EncodedRow> rows, double num_pairs) const {
    std::vector<float> margins;
    for (const auto& row : rows)
      margins.push_back(static_cast<float>(row.margin.value_or(config_.margin)));
    const auto margins_B = at::tensor(margins);
    const double centring = config_.center_rewards_coefficient.value_or(0.0);
    const auto logits_B = model_->head().preference(chosen, rejected);
    LossOutput output;
    if (loss_type_ == "mixture") {
      output = mixture_loss(chosen.log_gates_BK, chosen.outputs_BK - rejected.outputs_BK,
                            config_.gate_entropy_coef, num_pairs);
    } else if (loss_type_ == "preference_embedding") {
      output = {.loss = -at::log_sigmoid(logits_B).sum() / num_pairs, .metrics = {}};
      output.metrics["accuracy"] = {(logits_B > 0).sum().item<double>(),
                                    static_cast<double>(rows.size())};
      output.metrics["margin"] = {logits_B.detach().sum().item<double>(),
                                  static_cast<double>(rows.size())};
    } else if (loss_type_ == "margin" || loss_type_ == "scaled") {
      output = strength_loss(chosen.rewards_B, rejected.rewards_B, margins_B.abs(), loss_type_,
                             num_pairs);
    } else if (config_.label_smoothing > 0.0) {
      output = soft_preference_loss(
          chosen.rewards_B, rejected.rewards_B,
          at::full_like(chosen.rewards_B.detach(), 1.0 - config_.label_smoothing), num_pairs);
    } else {
      output = bradley_terry_loss(chosen.rewards_B, rejected.rewards_B, margins_B, centring,
                                  num_pairs);
    }
    if (loss_type_ == "pair_and_regression")
      output.loss = output.loss + regression(chosen.outputs_BK, rows, num_pairs).loss;
    note_calibration(logits_B, output);
    return output;
  }

  LossOutput regression(const at::Tensor& outputs_BK, std::span<const EncodedRow> rows,
                        double num_labels) const {
    if (outputs_BK.size(1) != static_cast<int64_t>(config_.label_columns.size()))
      throw ConfigError("algorithm.label_columns: the head has " +
                        std::to_string(outputs_BK.size(1)) + " outputs");
    std::vector<float> labels;
    for (const auto& row : rows)
      for (const double value : row.labels) labels.push_back(static_cast<float>(value));
    return attribute_regression_loss(outputs_BK, at::tensor(labels).view(outputs_BK.sizes()),
                                     num_labels);
  }

  /// Brier score of P(chosen is better), and how much larger that is than how often it is so.
  static void note_calibration(const at::Tensor& logits_B, LossOutput& output) {
    const auto p_B = logits_B.detach().sigmoid().to(at::kDouble);
    const auto count = static_cast<double>(p_B.numel());
    const auto confidence_B = at::maximum(p_B, 1.0 - p_B);
    output.metrics["calibration/brier"] = {(1.0 - p_B).square().sum().item<double>(), count};
    output.metrics["calibration/overconfidence"] = {
        (confidence_B - (p_B > 0.5).to(at::kDouble)).sum().item<double>(), count};
  }

  static double label(const Example& example, const std::string& name) {
    const auto found = example.extra.find(name);
    const auto fail = [&](const std::string& problem) {
      throw DataError("row " + std::to_string(example.row + 1) + ": column \"" + name + "\" " +
                      problem);
    };
    if (found == example.extra.end()) fail("is missing");
    const auto& text = found->second;
    if (text.empty() || text == "null") return kMissingLabel;
    double value = 0.0;
    const auto read = std::from_chars(text.data(), text.data() + text.size(), value);
    if (read.ec != std::errc() || read.ptr != text.data() + text.size() || !std::isfinite(value))
      fail("holds \"" + text + "\", not a number");
    return value;
  }

  Config config_;
  std::string loss_type_;
  const Tokenizer* tokenizer_ = nullptr;
  std::unique_ptr<RewardModel> model_;
};

MEED_REGISTER(algorithms, "reward_modelling", RewardModelling,
              "A reward model with any head, from preferences or labels.");

}  // namespace
}  // namespace meed
