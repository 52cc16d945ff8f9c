#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "algorithms/offline_trainer.h"
#include "algorithms/policy.h"
#include "algorithms/reward_inspection.h"
#include "algorithms/training_run.h"
#include "libpolicy/core/error.h"
#include "libpolicy/core/random.h"
#include "libpolicy/generation/rollout_engine.h"
#include "libreward/losses/bradley_terry.h"
#include "libreward/models/critique_model.h"

namespace meed {
namespace {

/// MM-RLHF's critique-based reward model: learns to write the critique of each side (teacher
/// forcing) and to score prompt, completion and critique. Served, it writes its own critiques
/// first.
class CritiqueReward final : public OfflineAlgorithm {
 public:
  struct Config {
    std::optional<ConfigNode> head;
    CritiqueFormat format;
    int64_t max_length = 1024;
    bool evaluate_generated = true;
    std::optional<int64_t> head_seed;
    void fields(FieldVisitor& v) {
      v.component("head", head, reward_heads(),
                  "What scores a critique's last token: linear or mlp; null: linear.");
      v.field("marker", format.marker, "What stands between a completion and its critique.");
      v.field("num_critiques", format.num_critiques,
              "Served: critiques whose scores are averaged.");
      v.field("max_critique_length", format.max_critique_length,
              "Served: tokens of a critique at most.");
      v.field("temperature", format.temperature,
              "Served: of critiques; 0 is greedy, and one critique then.");
      v.field("max_length", max_length, "Longer prompts and completions lose their start.");
      v.field("evaluate_generated", evaluate_generated,
              "Evaluate with critiques that the model writes too (eval_generated_accuracy).");
      v.field("head_seed", head_seed,
              "Seed of the head's first weights; null: run.seed, which the order of the data "
              "follows too.");
      v.require(!head_seed || *head_seed >= 0, "head_seed", "must not be negative");
      v.require(format.num_critiques > 0, "num_critiques", "must be positive");
      v.require(format.max_critique_length > 0, "max_critique_length", "must be positive");
      v.require(format.temperature >= 0, "temperature", "must not be negative");
      v.require(max_length > 1, "max_length", "must be at least 2");
    }
  };
  explicit CritiqueReward(const Config& config) : config_(config) {
    if (!config_.head) config_.head = ConfigNode::parse_string("{type: linear}", "head");
    const auto name = reward_heads().name_of(*config_.head);
    if (name != "linear" && name != "mlp")
      throw ConfigError("algorithm.head: critique_reward needs linear or mlp, got " + name);
  }

  TrainableModel prepare(TrainingRun& run) override {
    tokenizer_ = &run.tokenizer();
    comm_ = &run.comm();
    seed_ = run.seed();
    const auto& recipe = run.recipe();
    if (recipe.lora.r > 0)
      throw ConfigError("lora.r: critique_reward trains all weights; leave the lora section out");
    model_ = CritiqueModel::load(
        recipe.model.path, load_options(recipe.model, /*trainable=*/true), &*config_.head,
        config_.head_seed ? static_cast<uint64_t>(*config_.head_seed) : run.seed());
    const auto save = [this, &run](const std::filesystem::path& folder, at::ScalarType dtype) {
      model_->save(folder, &run.tokenizer(), dtype, config_.format);
    };
    return {.parameters = model_->parameters().trainable(),
            .sync = [this] { model_->backbone().sync_compute_weights(); },
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

  /// completion_ids: contexts of chosen and rejected, then their critiques.
  EncodedRow encode(const Example& example) override {
    const auto where = "row " + std::to_string(example.row + 1) + ": ";
    if (example.chosen.empty() || example.rejected.empty())
      throw DataError(where +
                      "critique_reward needs \"chosen\" and \"rejected\", neither of them empty");
    EncodedRow row;
    for (const auto* side : {&example.chosen, &example.rejected})
      row.completion_ids.push_back(critique_context(*tokenizer_, config_.format.marker,
                                                    example.prompt, *side, config_.max_length));
    if (row.completion_ids[0] == row.completion_ids[1])
      throw DataError(where + "\"chosen\" and \"rejected\" are the same");
    for (const std::string side : {"chosen", "rejected"}) {
      const auto found = example.extra.find(side + "_critique");
      if (found == example.extra.end() || found->second.empty())
        throw DataError(where + "column \"" + side + "_critique\" is missing or empty");
      row.completion_ids.push_back(critique_ids(*tokenizer_, found->second));
    }
    row.labels = {static_cast<double>(example.row)};  // what a generated critique's seed depends on
    return row;
  }

  double weight(const EncodedRow&) const override { return 1.0; }

  void begin_step(std::span<const EncodedRow> rows) override {
    double tokens = 0.0;
    for (const auto& row : rows)
      tokens += static_cast<double>(row.completion_ids[2].size() + row.completion_ids[3].size());
    auto sum = at::full({1}, tokens, at::kDouble);
    comm_->all_reduce(sum, ReduceOp::kSum);
    critique_tokens_ = sum.item<double>();
  }

  LossOutput loss(std::span<const EncodedRow> rows, const StepTotals& totals) override {
    std::vector<CritiqueModel::Row> texts;
    for (const auto& row : rows)
      for (const size_t side : {0, 1})
        texts.push_back({row.completion_ids[side], row.completion_ids[2 + side]});
    const auto output = model_->forward(texts);
    const auto chosen = output.rewards_B.slice(0, 0, std::nullopt, 2);
    const auto rejected = output.rewards_B.slice(0, 1, std::nullopt, 2);
    if (evaluating_) inspect(chosen, rejected, rows);
    return critique_score_loss(output.logprobs_M, chosen, rejected, critique_tokens_,
                               totals.weight);
  }

  void begin_evaluation() override {
    evaluating_ = true;
    inspected_.clear();
    contexts_.clear();
    row_ids_.clear();
  }

  void end_evaluation(TrainingRun& run, int64_t step) override {
    evaluating_ = false;
    record_inspection(run, step, inspected_, {});
    if (!config_.evaluate_generated || row_ids_.empty()) return;
    const auto rewards = generated_rewards();
    double right = 0.0;
    for (size_t i = 0; i + 1 < rewards.size(); i += 2) right += rewards[i] > rewards[i + 1];
    const auto count = static_cast<double>(row_ids_.size());
    run.recorder().record("eval_generated_accuracy", right / count, Reduce::kMean, count);
  }

 private:
  void inspect(const at::Tensor& chosen, const at::Tensor& rejected,
               std::span<const EncodedRow> rows) {
    for (size_t i = 0; i < rows.size(); ++i) {
      const double a = chosen[static_cast<int64_t>(i)].item<double>();
      const double b = rejected[static_cast<int64_t>(i)].item<double>();
      inspected_.push_back(
          {.logit = a - b,
           .chosen = a,
           .rejected = b,
           .chosen_tokens = static_cast<int64_t>(rows[i].completion_ids[0].size()),
           .rejected_tokens = static_cast<int64_t>(rows[i].completion_ids[1].size())});
      contexts_.insert(contexts_.end(), {rows[i].completion_ids[0], rows[i].completion_ids[1]});
      row_ids_.push_back(static_cast<uint64_t>(rows[i].labels[0]));
    }
  }

  /// The mean score of each context over the critiques that the model writes of it.
  std::vector<double> generated_rewards() {
    const auto engine = RolloutEngine::create(model_->backbone(), tokenizer_);
    std::vector<GenerationRequest> requests;
    const int64_t count = config_.format.temperature > 0 ? config_.format.num_critiques : 1;
    for (size_t i = 0; i < contexts_.size(); ++i) {
      GenerationRequest request{.id = static_cast<int64_t>(i), .prompt_ids = contexts_[i]};
      request.sampling = {.temperature = config_.format.temperature,
                          .max_new_tokens = config_.format.max_critique_length};
      for (int64_t k = 0; k < count; ++k)
        request.seeds.push_back(mix_seed({seed_, row_ids_[i / 2], static_cast<uint64_t>(k)}));
      requests.push_back(std::move(request));
    }
    std::vector<double> rewards;
    for (const auto& finished : engine->generate(std::move(requests))) {
      std::vector<CritiqueModel::Row> rows;
      for (const auto& critique : finished.completions)
        rows.push_back({contexts_[rewards.size()], critique.token_ids});
      rewards.push_back(model_->forward(rows).rewards_B.mean().item<double>());
    }
    return rewards;
  }

  Config config_;
  const Tokenizer* tokenizer_ = nullptr;
  Communicator* comm_ = nullptr;
  uint64_t seed_ = 0;
  std::unique_ptr<CritiqueModel> model_;
  double critique_tokens_ = 1.0;
  bool evaluating_ = false;
  std::vector<InspectedPair> inspected_;
  std::vector<std::vector<int64_t>> contexts_;
  std::vector<uint64_t> row_ids_;
};

MEED_REGISTER(algorithms, "critique_reward", CritiqueReward,
              "A reward model that writes a critique and scores with it (MM-RLHF).");

}  // namespace
}  // namespace meed
