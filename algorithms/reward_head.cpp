#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>

#include "algorithms/contrastive_term.h"
#include "algorithms/head_evaluation.h"
#include "algorithms/head_objective.h"
#include "algorithms/label_strength.h"
#include "algorithms/meta_step.h"
#include "algorithms/offline_trainer.h"
#include "algorithms/reward_rows.h"
#include "algorithms/training_run.h"
#include "libpolicy/checkpoint/safetensors.h"
#include "libpolicy/core/error.h"
#include "libpolicy/core/log.h"
#include "libpolicy/core/random.h"
#include "libreward/data/feature_store.h"
#include "libreward/models/feature_heads.h"

namespace meed {
namespace {

/// Members of an ensemble that one run trains side by side.
struct EnsembleSection {
  int64_t num_members = 1;
  std::string vary = "finetune";
  bool bootstrap = false;
  std::string aggregate = "mean";
  double std_coef = 0.5;
  void fields(FieldVisitor& v) {
    v.field("num_members", num_members, "Heads that are trained; 1: no ensemble.");
    v.choice("vary", vary, {"finetune", "init", "order", "pretrain"},
             "How members differ: finetune: in their first weights and in the order of the data; "
             "init: in their weights alone; order: in the order alone; pretrain: in the frozen map "
             "of a random_features head too.");
    v.field("bootstrap", bootstrap, "Each member learns from its own resampling of the rows.");
    v.choice("aggregate", aggregate, {"mean", "median", "min", "mean_minus_std"},
             "How their rewards become one.");
    v.field("std_coef", std_coef, "mean_minus_std: how many deviations are taken off.");
    v.require(num_members > 0, "num_members", "must be positive");
    v.require(num_members == 1 || vary != "order" || !bootstrap, "bootstrap",
              "makes members differ by more than the order of the data; leave it out, or choose "
              "vary: finetune");
    v.require(std_coef >= 0, "std_coef", "must not be negative");
  }
};

/// How often a row stands in a member's bootstrap sample: Poisson of mean 1, from (seed, member,
/// row).
int64_t bootstrap_count(uint64_t seed, int64_t member, int64_t row) {
  const double u =
      uniform(mix_seed({seed, 0xb007, static_cast<uint64_t>(member)}), static_cast<uint64_t>(row));
  double p = 0.36787944117144233, below = p;  // 1 / e
  int64_t count = 0;
  while (u >= below && count < 20) below += p /= static_cast<double>(++count);
  return count;
}

/// Trains reward heads, or an ensemble of them, on rows of vectors: hidden states of a frozen
/// backbone, or whatever features a researcher has.
class RewardHeadTraining final : public OfflineAlgorithm {
 public:
  struct Config {
    std::optional<ConfigNode> head;
    HeadObjective::Config objective;
    std::string init_from;
    std::vector<std::string> freeze;
    EnsembleSection ensemble;
    LabelStrength::Config strength;
    ContrastiveTerm::Config contrastive;
    MetaStep::Config meta;
    void fields(FieldVisitor& v) {
      v.component("head", head, reward_heads(), "What stands on the vectors; null: linear.");
      objective.fields(v);
      v.field("init_from", init_from, "Start from the heads in this folder (final/ of a run).");
      v.field("freeze", freeze, "Parameters whose names begin with one of these stay as they are.");
      v.section("ensemble", ensemble, "Several heads at once.");
      v.section("strength", strength, "Labels mended by an ensemble (Secrets of RLHF II).");
      v.section("contrastive", contrastive, "A contrastive term (Secrets of RLHF II).");
      v.section("meta", meta, "A step that spreads rewards of new responses (MetaRM).");
    }
  };

  explicit RewardHeadTraining(const Config& config)
      : config_(config),
        head_(config.head ? *config.head : ConfigNode::parse_string("{type: linear}", "head")),
        objective_(config.objective, reward_heads().name_of(head_)) {
    if (!objective_.on_pairs() &&
        (!config.strength.ensemble.empty() || config.contrastive.coef > 0))
      throw ConfigError("algorithm: strength and contrastive need a loss on pairs");
    const auto& use = config.strength.use;
    for (const char* way : {"margin", "soft"})
      if (!config.strength.ensemble.empty() &&
          std::find(use.begin(), use.end(), way) != use.end() &&
          objective_.loss_type() != "bradley_terry" &&
          objective_.loss_type() != "pair_and_regression")
        throw ConfigError("algorithm.strength.use: " + std::string(way) +
                          " goes with loss_type bradley_terry, not with " + objective_.loss_type() +
                          "; use flip or drop");
    if (config.contrastive.coef > 0 && !config.strength.ensemble.empty() &&
        std::find(use.begin(), use.end(), "drop") != use.end())
      throw ConfigError(
          "algorithm.strength.use: drop does not go with contrastive, whose negatives "
          "are all rows of a step; use flip");
  }

  TrainableModel prepare(TrainingRun& run) override {
    run_ = &run;
    train_rows_.resize(static_cast<size_t>(run.data().size()));
    for (int64_t m = 0; own_order() && m < config_.ensemble.num_members; ++m)
      orders_.push_back(member_order(run, m));
    const auto vectors = read_vectors(run.data().get(0))->vectors;
    const auto own = vectors.find(objective_.on_pairs() ? "chosen_features" : "features");
    if (own == vectors.end())
      throw DataError("row 1: \"" +
                      std::string(objective_.on_pairs() ? "chosen_features" : "features") +
                      "\" is missing: reward_head learns from rows of vectors");
    const auto context = vectors.find("context_features");
    heads_ = FeatureHeads::create(
        {.head = head_,
         .num_members = config_.ensemble.num_members,
         .vary = config_.ensemble.vary,
         .features = static_cast<int64_t>(own->second.size()),
         .context = context == vectors.end() ? 0 : static_cast<int64_t>(context->second.size()),
         .seed = run.seed()});
    heads_->aggregate = {config_.ensemble.aggregate, config_.ensemble.std_coef};
    if (const auto* source = feature_source(run.data())) heads_->source = *source;
    if (const auto* source = run.eval_data() ? feature_source(*run.eval_data()) : nullptr;
        source && *source != heads_->source)
      throw ConfigError("eval_data: its features come from " + source->model + " (" +
                        source->pooling + "), those of data from " +
                        (heads_->source.model.empty() ? "elsewhere" : heads_->source.model) + " (" +
                        heads_->source.pooling + ")");
    if (!config_.init_from.empty())
      copy_weights(*FeatureHeads::load(config_.init_from), *heads_, config_.init_from);
    const bool on_aspects = objective_.loss_type() == "aspects";
    check_label_columns(run.data(), config_.objective.label_columns, /*of_sides=*/on_aspects);
    if (on_aspects) check_aspects();
    set_trainable();
    contrastive_ = std::make_unique<ContrastiveTerm>(config_.contrastive, run.seed());
    if (contrastive_->on()) add_prototypes(run.data());
    if (!config_.strength.ensemble.empty()) {
      strength_ = std::make_unique<LabelStrength>(config_.strength, run.data());
      log_info("strength: " + std::to_string(strength_->num_suspects()) + " of " +
               std::to_string(run.data().size()) + " preferences look wrong");
    }
    if (config_.meta.data) meta_ = std::make_unique<MetaStep>(config_.meta, run.context(), *heads_);
    return {.parameters = trainable_.trainable(),
            .sync = [] {},
            .save = [this](const std::filesystem::path& folder) { heads_->save(folder); },
            .save_exact = [this](const std::filesystem::path& folder) { save_exact(folder); },
            .load = [this](const std::filesystem::path& folder) { load_exact(folder); }};
  }

  EncodedRow encode(const Example& example) override {
    // Reading numbers from text takes longer than a step; rows of the training data are kept.
    if (!at::GradMode::is_enabled()) return {.example = read_vectors(example)};
    return {.example = train_row(example.row)};
  }

  double weight(const EncodedRow& row) const override { return weight(*row.example); }

  void begin_step(std::span<const EncodedRow> rows) override {
    // An evaluation's rows come in one order to all members.
    const size_t orders = at::GradMode::is_enabled() && !orders_.empty() ? orders_.size() : 1;
    std::vector<double> own_sums(3 * orders, 0.0);
    for (size_t m = 0; m < orders; ++m)
      for (const auto& row : orders == 1 ? examples_of(rows) : own_rows(rows, m)) {
        const auto labels = objective_.count_aspects(*row);
        own_sums[3 * m] += weight(*row);
        own_sums[3 * m + 1] += labels.aspects;
        own_sums[3 * m + 2] += labels.criteria;
      }
    auto all_sums = at::tensor(own_sums, at::kDouble);
    run_->comm().all_reduce(all_sums, ReduceOp::kSum);
    totals_.clear();
    for (size_t m = 0; m < orders; ++m) {
      const auto* sums = all_sums.const_data_ptr<double>() + 3 * m;
      totals_.push_back({.weight = sums[0], .labels = {.aspects = sums[1], .criteria = sums[2]}});
    }
  }

  LossOutput loss(std::span<const EncodedRow> rows, const StepTotals& totals) override {
    const bool training = at::GradMode::is_enabled();
    if (training && meta_) meta_objective_ = meta_->climb(totals.step);
    LossOutput output{.loss = at::zeros({}), .metrics = {}};
    add_losses(output, rows, totals.step, training);
    if (training && meta_) output.metrics["meta_difference"] = {meta_objective_, 1.0};
    // What an evaluation reports stands in evaluate(): it knows the ensemble and all rows.
    if (!training) output.metrics.clear();
    return output;
  }

  void before_update() override {
    if (meta_) meta_->restore();
  }

  void evaluate(const Dataset& data, MetricsWriter& writer) override {
    evaluate_heads(*heads_, data, objective_, writer);
  }

 private:
  using Examples = std::vector<std::shared_ptr<const VectorExample>>;

  void add_losses(LossOutput& output, std::span<const EncodedRow> rows, int64_t step,
                  bool training) {
    const bool own_order = training && !orders_.empty();
    std::optional<HeadBatch> batch;
    for (int64_t m = 0; m < heads_->size(); ++m) {
      if (m == 0 || own_order)
        batch = batch_of(own_order ? own_rows(rows, static_cast<size_t>(m)) : examples_of(rows),
                         training);
      if (!batch) continue;
      const auto& [weight, labels] = totals_.at(own_order ? static_cast<size_t>(m) : 0);
      const auto own = training && config_.ensemble.bootstrap ? resampled(*batch, m) : *batch;
      if (own.size() > 0 && weight > 0.0) {
        const auto part = objective_.loss(heads_->member(m), own, weight, labels);
        output.loss = output.loss + part.loss;
        merge(output.metrics, part.metrics);
      }
      if (!training || !contrastive_->on()) continue;
      const auto term =
          contrastive_->loss(heads_->member(m), m, *batch, step, weight, run_->comm());
      output.loss = output.loss + term.loss;
      merge(output.metrics, term.metrics);
    }
    output.loss = output.loss / static_cast<double>(heads_->size());
  }

  /// Without the rows that a step leaves out; nullopt if none is left.
  std::optional<HeadBatch> batch_of(Examples examples, bool training) const {
    if (training && strength_)
      std::erase_if(examples, [&](const auto& row) { return strength_->dropped(row->row); });
    if (examples.empty()) return std::nullopt;
    auto batch = objective_.batch(examples);
    if (training && strength_) strength_->apply(batch);
    return batch;
  }

  static Examples examples_of(std::span<const EncodedRow> rows) {
    Examples examples;
    for (const auto& row : rows) examples.push_back(row.example);
    return examples;
  }

  double weight(const VectorExample& row) const {
    if (strength_ && at::GradMode::is_enabled() && strength_->dropped(row.row)) return 0.0;
    return objective_.weight(row);
  }

  /// Whether members go through the data in orders of their own.
  bool own_order() const {
    return config_.ensemble.num_members > 1 && config_.ensemble.vary != "init";
  }
  /// Member m learns from row order[r] where the step has row r: a shuffled order shuffled again,
  /// whatever the number of processes, and each row still comes once an epoch. The first member's
  /// is the run's.
  static std::vector<int64_t> member_order(const TrainingRun& run, int64_t m) {
    const int64_t size = run.data().size();
    return Sampler(size, mix_seed({run.seed(), 0x04de4, static_cast<uint64_t>(m)}),
                   /*shuffle=*/m > 0)
        .next(size);
  }
  Examples own_rows(std::span<const EncodedRow> rows, size_t member) {
    Examples own;
    for (const auto& row : rows)
      own.push_back(train_row(orders_[member][static_cast<size_t>(row.example->row)]));
    return own;
  }
  const std::shared_ptr<const VectorExample>& train_row(int64_t place) {
    auto& row = train_rows_.at(static_cast<size_t>(place));
    if (!row) row = read_vectors(run_->data().get(place));
    return row;
  }

  HeadBatch resampled(const HeadBatch& batch, int64_t member) const {
    std::vector<int64_t> index;
    for (int64_t i = 0; i < batch.size(); ++i)
      index.insert(index.end(),
                   static_cast<size_t>(
                       bootstrap_count(run_->seed(), member, batch.rows[static_cast<size_t>(i)])),
                   i);
    return batch.select(at::tensor(index, at::kLong));
  }

  void set_trainable() {
    for (const auto& [name, tensor] : heads_->parameters().items()) {
      // An ensemble's names begin with the member's.
      const auto own = name.starts_with("member-") ? name.substr(name.find('.') + 1) : name;
      const bool frozen = std::any_of(config_.freeze.begin(), config_.freeze.end(),
                                      [&](const auto& prefix) { return own.starts_with(prefix); });
      tensor.set_requires_grad(!frozen);
      trainable_.add(name, tensor);
    }
    if (trainable_.trainable().empty())
      throw ConfigError("algorithm.freeze: nothing is left to train");
    for (const auto& prefix : config_.freeze)
      if (std::none_of(trainable_.items().begin(), trainable_.items().end(), [&](const auto& item) {
            return item.first.find(prefix) != std::string::npos;
          }))
        throw ConfigError("algorithm.freeze: no parameter begins with \"" + prefix + "\"");
  }

  void add_prototypes(const Dataset& data) {
    const at::NoGradGuard no_grad;
    const std::vector<std::shared_ptr<const VectorExample>> row{read_vectors(data.get(0))};
    const auto hidden = heads_->member(0).forward(head_input(row, "chosen_features")).hidden_BH;
    if (!hidden.defined())
      throw ConfigError("algorithm.contrastive: needs a head with a hidden layer, such as mlp");
    contrastive_->init(heads_->size(), hidden.size(1), trainable_);
    for (const auto& [name, tensor] : trainable_.items())
      if (name.starts_with("prototypes.")) tensor.set_requires_grad(true);
  }

  void check_aspects() const {
    const auto& head = heads_->member(0);
    const auto check = [](const char* key, size_t given, size_t needed, const char* what) {
      if (given > 0 && given != needed)
        throw ConfigError("algorithm." + std::string(key) + ": names " + std::to_string(given) +
                          " columns, the head has " + std::to_string(needed) + " " + what);
    };
    check("label_columns", config_.objective.label_columns.size(), head.output_names().size(),
          "criteria");
    check("aspect_columns", config_.objective.aspect_columns.size(), head.gate_names().size(),
          "aspects");
    check_label_columns(run_->data(), config_.objective.aspect_columns);
  }

  void save_exact(const std::filesystem::path& folder) const {
    NamedTensors tensors;
    for (const auto& [name, tensor] : trainable_.items())
      tensors.emplace_back(name, tensor.detach().contiguous());
    write_safetensors(folder / "heads.safetensors", tensors);
  }

  void load_exact(const std::filesystem::path& folder) {
    const at::NoGradGuard no_grad;
    const SafetensorsFile file(folder / "heads.safetensors");
    for (const auto& [name, tensor] : trainable_.items()) {
      const auto value = file.load(name);
      if (value.sizes() != tensor.sizes())
        throw DataError(folder.string() + ": " + name +
                        " has another shape; the checkpoint belongs to another head");
      tensor.copy_(value);
    }
  }

  Config config_;
  ConfigNode head_;
  HeadObjective objective_;
  TrainingRun* run_ = nullptr;
  std::vector<std::shared_ptr<const VectorExample>> train_rows_;
  std::vector<std::vector<int64_t>> orders_;  ///< of each member; empty: all have the run's
  /// Of the rows of a step (or an evaluation) on all ranks, in each of the orders.
  struct RowTotals {
    double weight = 0.0;
    AspectTotals labels;
  };
  std::vector<RowTotals> totals_;
  std::unique_ptr<FeatureHeads> heads_;
  ParameterStore trainable_;  ///< the heads' and the contrastive term's
  std::unique_ptr<LabelStrength> strength_;
  std::unique_ptr<ContrastiveTerm> contrastive_;
  std::unique_ptr<MetaStep> meta_;
  double meta_objective_ = 0.0;
};

MEED_REGISTER(algorithms, "reward_head", RewardHeadTraining,
              "Reward heads, or an ensemble of them, on vectors.");
[[maybe_unused]] const bool without_model = works_without_model("reward_head");

}  // namespace
}  // namespace meed
