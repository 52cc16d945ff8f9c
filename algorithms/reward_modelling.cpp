#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>

#include "algorithms/offline_trainer.h"
#include "algorithms/policy.h"
#include "algorithms/reward_inspection.h"
#include "algorithms/reward_objective.h"
#include "algorithms/reward_rows.h"
#include "algorithms/step_evaluation.h"
#include "algorithms/training_run.h"
#include "libpolicy/core/error.h"
#include "libpolicy/core/log.h"
#include "libreward/losses/regression.h"
#include "libreward/models/fused_scorer.h"
#include "libreward/models/reward_model.h"

namespace meed {
namespace {

/// Trains a reward model: a backbone with any head of reward_heads(), by any of its losses, on
/// preferences, labelled completions or labelled steps.
class RewardModelling final : public OfflineAlgorithm {
 public:
  struct Config {
    std::optional<ConfigNode> head;
    std::string pooling = "last";
    RewardObjective objective;
    int64_t max_length = 1024;
    bool freeze_backbone = false;
    std::vector<std::string> label_columns, aspect_columns;
    FusionSection fusion;
    std::string group_by, reference_column, step_separator = "\n", step_aggregate = "product";
    double step_threshold = 0.5;
    std::optional<int64_t> head_seed;
    void fields(FieldVisitor& v) {
      v.component("head", head, reward_heads(),
                  "What stands on the backbone; null: linear (steps: an MLP of 2 layers).");
      v.choice("pooling", pooling, {"last", "mean", "prompt_end", "steps"},
               "What the head reads: the last token, the mean of all, the prompt's end, or the end "
               "of each step.");
      objective.fields(v);
      v.field("max_length", max_length, "Longer rows are cut; the prompt loses its start first.");
      v.field("freeze_backbone", freeze_backbone, "Train the head alone.");
      v.field("label_columns", label_columns,
              "regression, verifier: columns with the labels of the head's outputs, in order; "
              "aspects: names of the criteria, whose labels stand in chosen_NAME and "
              "rejected_NAME. An empty cell is a missing label.");
      v.field("aspect_columns", aspect_columns,
              "aspects: columns that say which side is better in each aspect, in order: 1 the "
              "chosen, -1 the rejected, empty or 0 unknown.");
      v.field("group_by", group_by, "Column by whose values eval_accuracy is split.");
      v.section(
          "fusion", fusion,
          "Evaluate with RewardFusion too (eval_fused_accuracy); what is saved stays the model.");
      v.field("reference_column", reference_column,
              "Column whose text stands at the prompt's end: a reference-conditioned verifier.");
      v.field("step_separator", step_separator, "steps: what ends a step of a text to score.");
      v.choice("step_aggregate", step_aggregate,
               {"product", "min", "last", "mean", "geometric_mean"},
               "steps: what makes one reward of the steps' probabilities.");
      v.field("head_seed", head_seed,
              "Seed of the first weights of the head and of an adapter; null: run.seed, which the "
              "order of the data follows too.");
      v.require(!head_seed || *head_seed >= 0, "head_seed", "must not be negative");
      v.field("step_threshold", step_threshold,
              "steps: probability below which an evaluation counts a step as called wrong.");
      v.require(max_length > 1, "max_length", "must be at least 2");
      v.require(step_threshold > 0 && step_threshold < 1, "step_threshold", "must be in (0, 1)");
      v.require(!step_separator.empty(), "step_separator", "must not be empty");
    }
  };

  explicit RewardModelling(const Config& config) : config_(config) {
    auto& head = config_.head;
    if (!head && config.pooling == "steps") head = ConfigNode::parse_string("{type: mlp}", "head");
    const auto name = head ? reward_heads().name_of(*head) : "linear";
    config_.objective.resolve(name, config.pooling, config.label_columns);
  }

  TrainableModel prepare(TrainingRun& run) override {
    tokenizer_ = &run.tokenizer();
    comm_ = &run.comm();
    const auto& recipe = run.recipe();
    const bool adapter = recipe.lora.r > 0;
    const RewardModel::Fresh fresh{config_.head, format(), head_seed(run)};
    model_ = RewardModel::load(recipe.model.path,
                               load_options(recipe.model, /*trainable=*/!adapter), &fresh);
    if (model_->reader() != RewardReader::kDecoder &&
        (recipe.model.dtype != "float32" || recipe.model.gradient_checkpointing ||
         recipe.model.device != "cpu"))
      log_warn(
          "model: an encoder computes in float32 on the CPU and keeps its activations; dtype, "
          "device and gradient_checkpointing are not used");
    if (config_.freeze_backbone) model_->backbone_parameters().set_requires_grad(false);
    rows_ = {.format = model_->format(),
             .reader = model_->reader(),
             .max_length =
                 std::min(config_.max_length, model_->max_length().value_or(config_.max_length)),
             .group_by = config_.group_by};
    const auto& loss = config_.objective.loss_type;
    if (loss == "regression" || loss == "verifier" || loss == "pair_and_regression")
      check_label_columns(run.data(), config_.label_columns);
    if (loss == "aspects") {
      check_aspects();
      check_label_columns(run.data(), config_.label_columns, /*of_sides=*/true);
      check_label_columns(run.data(), config_.aspect_columns);
    }
    return adapter ? with_adapter(run) : trainable(run);
  }

  EncodedRow encode(const Example& example) override {
    const auto& loss = config_.objective.loss_type;
    if (config_.objective.on_steps()) return encode_reward_row(*tokenizer_, rows_, example);
    if (!config_.objective.on_pairs()) {
      auto row = encode_reward_row(*tokenizer_, rows_, example);
      for (const auto& name : config_.label_columns)
        row.labels.push_back(column_label(example, name));
      if (loss == "verifier" && row.labels.empty()) row.labels.push_back(verdict(example));
      return row;
    }
    auto row = encode_reward_pair(*tokenizer_, rows_, example);
    if (config_.objective.on_strengths())
      row.margin = preference_strength_of(example, config_.objective.margin, loss);
    if (loss == "pair_and_regression")
      for (const auto& name : config_.label_columns)
        row.labels.push_back(column_label(example, name));
    if (loss == "aspects") {
      for (const char* side : {"chosen_", "rejected_"})
        for (const auto& name : config_.label_columns)
          row.labels.push_back(column_label(example, side + name, /*needed=*/false));
      for (const auto& name : config_.aspect_columns)
        row.labels.push_back(column_label(example, name, /*needed=*/false));
    }
    return row;
  }

  double weight(const EncodedRow& row) const override {
    if (config_.objective.on_pairs()) return 1.0;
    return static_cast<double>(row.labels.size()) -
           static_cast<double>(std::count(row.labels.begin(), row.labels.end(), kMissingLabel));
  }

  void begin_step(std::span<const EncodedRow> rows) override {
    totals_ = config_.objective.count_labels(rows, config_.label_columns.size(), *comm_);
  }

  LossOutput loss(std::span<const EncodedRow> rows, const StepTotals& totals) override {
    std::vector<RewardModel::Row> texts;
    for (const auto& row : rows) {
      auto& text = texts.emplace_back(RewardModel::Row{row.prompt_ids, {}});
      for (const auto& ids : row.completion_ids) text.completions.emplace_back(ids);
      if (config_.objective.on_steps()) text.step_ends = {row.step_ends};
    }
    const auto output = model_->forward(texts);
    if (evaluating_ && config_.objective.on_steps()) judge_steps(output, rows);
    if (!config_.objective.on_pairs())
      return config_.objective.row_loss(output, rows, totals.weight);
    // Chosen and rejected of a row stand side by side.
    const auto chosen = every(output, 0, 2), rejected = every(output, 1, 2);
    const auto logits_B = model_->head().preference(chosen, rejected);
    if (evaluating_) inspect(chosen, rejected, logits_B, rows);
    return config_.objective.pair_loss(chosen, rejected, logits_B, rows, totals.weight, totals_);
  }

  void begin_evaluation() override {
    evaluating_ = true;
    inspected_.clear();
    judged_.clear();
  }
  void end_evaluation(TrainingRun& run, int64_t step) override {
    evaluating_ = false;
    record_inspection(run, step, inspected_, model_->head().gate_names());
    if (config_.objective.on_steps()) record_steps(run);
    if (config_.fusion.data && config_.objective.on_pairs()) evaluate_fused(run);
  }

 private:
  RewardFormat format() const {
    return {.pooling = config_.pooling,
            .step_separator = config_.step_separator,
            .step_aggregate = config_.step_aggregate,
            .reference_column = config_.reference_column,
            .probability = config_.objective.loss_type == "verifier"};
  }

  uint64_t head_seed(const TrainingRun& run) const {
    return config_.head_seed ? static_cast<uint64_t>(*config_.head_seed) : run.seed();
  }

  TrainableModel trainable(TrainingRun& run) {
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

  /// final/ holds the merged model, and adapter and head alone beside it.
  TrainableModel with_adapter(TrainingRun& run) {
    const auto& recipe = run.recipe();
    if (config_.freeze_backbone)
      throw ConfigError(
          "algorithm.freeze_backbone: an adapter trains the backbone; leave out one "
          "of freeze_backbone and lora");
    model_->add_adapter({.r = recipe.lora.r,
                         .lora_alpha = recipe.lora.lora_alpha,
                         .use_rslora = recipe.lora.use_rslora,
                         .target_modules = recipe.lora.target_modules,
                         .base_model = recipe.model.path},
                        head_seed(run));
    auto model = trainable(run);
    const auto save = model.save;
    model.save = [=, this](const std::filesystem::path& folder) {
      save(folder);
      std::filesystem::create_directory(folder / "adapter");
      model_->save_adapter_and_head(folder / "adapter");
    };
    model.save_exact = [this](const std::filesystem::path& folder) {
      model_->save_adapter_and_head(folder);
    };
    model.load = [this](const std::filesystem::path& folder) {
      model_->load_adapter_and_head(folder);
    };
    return model;
  }

  void check_aspects() const {
    const auto criteria = model_->head().output_names().size();
    const auto aspects = model_->head().gate_names().size();
    if (!config_.label_columns.empty() && config_.label_columns.size() != criteria)
      throw ConfigError("algorithm.label_columns: the head has " + std::to_string(criteria) +
                        " criteria");
    if (!config_.aspect_columns.empty() && config_.aspect_columns.size() != aspects)
      throw ConfigError("algorithm.aspect_columns: the head has " + std::to_string(aspects) +
                        " aspects");
  }

  void evaluate_fused(TrainingRun& run) {
    const auto& data = *run.eval_data();
    std::vector<Example> examples;
    for (int64_t row = run.comm().rank(); row < data.size(); row += run.comm().size())
      examples.push_back(data.get(row));
    std::vector<TextScorer::Text> texts;
    for (const auto& example : examples) {
      texts.push_back({&example, example.chosen});
      texts.push_back({&example, example.rejected});
    }
    const auto scorer =
        with_fusion(TextScorer::of(*model_, *tokenizer_, {.max_length = rows_.max_length}),
                    config_.fusion, run.context());
    const auto compared = scorer->compare(texts);
    double right = 0.0, neighbours = 0.0;
    for (const auto& each : compared) {
      right += each.logit > 0;
      neighbours += each.first.parts.at("neighbours") + each.second.parts.at("neighbours");
    }
    const auto count = static_cast<double>(compared.size());
    if (compared.empty()) return;
    run.recorder().record("eval_fused_accuracy", right / count, Reduce::kMean, count);
    run.recorder().record("eval_fused_neighbours", neighbours / (2.0 * count), Reduce::kMean,
                          2.0 * count);
  }

  /// The rewards of all rows' steps stand end to end.
  void judge_steps(const HeadOutput& output, std::span<const EncodedRow> rows) {
    const auto p_S = output.rewards_B.sigmoid().to(at::kDouble).contiguous();
    const auto* next = p_S.const_data_ptr<double>();
    for (const auto& row : rows) {
      judged_.push_back({row.labels, {next, next + row.labels.size()}});
      next += row.labels.size();
    }
  }

  void record_steps(TrainingRun& run) const {
    const auto all = gathered(run.comm(), judged_);
    const auto evaluation = evaluate_steps(all, config_.step_threshold);
    const auto& first = evaluation.first_error;
    auto& recorder = run.recorder();
    if (first.erroneous + first.correct > 0) {
      recorder.record("eval_first_error/f1", first.f1);
      recorder.record("eval_first_error/accuracy_erroneous", first.accuracy_erroneous);
      recorder.record("eval_first_error/accuracy_correct", first.accuracy_correct);
      const double best = best_threshold(all);
      recorder.record("eval_first_error/best_f1", evaluate_steps(all, best).first_error.f1);
      recorder.record("eval_first_error/best_threshold", best);
    }
    recorder.record("eval_last_step_minimum", evaluation.last_step_minimum);
  }

  static double verdict(const Example& example) {
    if (!example.label)
      throw DataError("row " + std::to_string(example.row + 1) +
                      ": verifier needs \"label\" (true or false), or label_columns");
    return *example.label ? 1.0 : 0.0;
  }

  void inspect(const HeadOutput& chosen, const HeadOutput& rejected, const at::Tensor& logits_B,
               std::span<const EncodedRow> rows) {
    for (size_t i = 0; i < rows.size(); ++i) {
      const auto b = static_cast<int64_t>(i);
      InspectedPair pair{.logit = logits_B[b].item<double>(),
                         .chosen = chosen.rewards_B[b].item<double>(),
                         .rejected = rejected.rewards_B[b].item<double>(),
                         .chosen_tokens = static_cast<int64_t>(rows[i].completion_ids[0].size()),
                         .rejected_tokens = static_cast<int64_t>(rows[i].completion_ids[1].size()),
                         .group = rows[i].group};
      if (chosen.log_gates_BK.defined())
        for (int64_t k = 0; k < chosen.log_gates_BK.size(1); ++k)
          pair.gates.push_back(std::exp(chosen.log_gates_BK[b][k].item<double>()));
      inspected_.push_back(std::move(pair));
    }
  }

  Config config_;
  RewardRowOptions rows_;
  LabelTotals totals_;
  Communicator* comm_ = nullptr;
  const Tokenizer* tokenizer_ = nullptr;
  std::unique_ptr<RewardModel> model_;
  bool evaluating_ = false;
  std::vector<InspectedPair> inspected_;
  std::vector<JudgedSteps> judged_;
};

MEED_REGISTER(algorithms, "reward_modelling", RewardModelling,
              "A reward model with any head, from preferences, labels or labelled steps.");

}  // namespace
}  // namespace meed
