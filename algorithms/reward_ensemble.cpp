#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <cmath>

#include "algorithms/algorithm.h"
#include "algorithms/policy.h"
#include "algorithms/reward_inspection.h"
#include "algorithms/training_run.h"
#include "libpolicy/core/error.h"
#include "libpolicy/core/log.h"
#include "libreward/functions/ensemble.h"
#include "libreward/models/text_scorer.h"

namespace meed {
namespace {

namespace fs = std::filesystem;

/// Trains several reward models by one recipe, one after the other: members that differ in the
/// seed of the head, of the order of the data or both, and may differ in backbone (Helping or
/// herding, Eisenstein et al. 2023). Each is
/// an ordinary run in output_dir/members/<k>; final/ holds them all and is served as one. Its steps
/// are members: at step k the metrics are those of the first k together.
class RewardEnsemble final : public Algorithm {
 public:
  struct Config {
    std::optional<ConfigNode> member;
    int64_t num_members = 3;
    std::string vary = "finetune";
    std::vector<std::string> backbones;
    std::string aggregate = "mean";
    double std_coef = 0.5;
    std::vector<double> member_weights;
    void fields(FieldVisitor& v) {
      v.component("member", member, algorithms(),
                  "The algorithm of each member: reward_modelling.");
      v.required("member");
      v.field("num_members", num_members, "Members; vary says how they differ.");
      v.choice(
          "vary", vary, {"finetune", "init", "order"},
          "finetune: in the first weights of the head and in the order of the data (run.seed + "
          "k); init: in the weights alone (head_seed + k); order: in the order alone.");
      v.field("backbones", backbones,
              "A model.path for each member; empty: all stand on the recipe's.");
      v.choice("aggregate", aggregate, {"mean", "median", "min", "mean_minus_std", "weighted"},
               "What is served of the members' rewards.");
      v.field("std_coef", std_coef, "mean_minus_std: how many deviations are taken off.");
      v.field("member_weights", member_weights, "weighted: a weight for each member.");
      v.require(num_members > 0, "num_members", "must be positive");
      v.require(backbones.empty() || static_cast<int64_t>(backbones.size()) == num_members,
                "backbones", "must be as many as num_members");
      v.require(
          aggregate != "weighted" || static_cast<int64_t>(member_weights.size()) == num_members,
          "member_weights", "must be as many as num_members");
      v.require(std_coef >= 0, "std_coef", "must not be negative");
    }
  };
  explicit RewardEnsemble(const Config& config) : config_(config) {
    const auto name = algorithms().name_of(*config.member);
    if (name != "reward_modelling" && name != "critique_reward")
      throw ConfigError("algorithm.member: " + name +
                        " trains no reward model; name reward_modelling or critique_reward");
  }

  void train(TrainingRun& run) override {
    run.recorder().set_total_steps(config_.num_members);
    for (int64_t k = 0; k < config_.num_members; ++k) {
      if (!train_member(run, k)) return;
      evaluate(run, k);
    }
    finish(run);
  }

 private:
  static fs::path member_folder(const TrainingRun& run, int64_t k) {
    return run.output_dir() / "members" / std::to_string(k);
  }

  /// False if a signal stopped it.
  bool train_member(TrainingRun& run, int64_t k) {
    const auto folder = member_folder(run, k);
    if (fs::exists(folder / "final")) return !run.stop_requested();
    Recipe recipe = run.recipe();
    recipe.algorithm = config_.member;
    recipe.warm_start = nullptr;
    recipe.run.output_dir = folder.string();
    recipe.run.run_name = "member " + std::to_string(k);
    if (config_.vary != "init") recipe.run.seed += k;
    if (config_.vary != "finetune") {
      const int64_t first = recipe.algorithm->has("head_seed")
                                ? recipe.algorithm->at("head_seed").as_int()
                                : run.recipe().run.seed;
      recipe.algorithm = recipe.algorithm->with_overrides(
          {"head_seed=" + std::to_string(config_.vary == "init" ? first + k : first)});
    }
    if (!config_.backbones.empty()) recipe.model.path = config_.backbones[static_cast<size_t>(k)];
    log_info("member " + std::to_string(k) + ": " + folder.string());
    const bool begun = fs::exists(folder / "metrics.jsonl");
    run.comm().barrier();
    TrainingRun member(recipe, run.comm(), {.resume = begun});
    algorithms().create(*recipe.algorithm, member.context())->train(member);
    return !run.stop_requested() || fs::exists(folder / "final");
  }

  /// Rewards of eval_data's pairs by member k, this rank's rows; then the first k + 1 together.
  void evaluate(TrainingRun& run, int64_t k) {
    const auto* data = run.eval_data();
    auto& recorder = run.recorder();
    if (data != nullptr) {
      if (texts_.empty()) read_pairs(run, *data);
      add_member(run, k);
      std::vector<InspectedPair> pairs;
      const auto logits_MN = at::stack(logits_), chosen_MN = at::stack(chosen_),
                 rejected_MN = at::stack(rejected_);
      double right = 0.0;
      // Weights are for the whole ensemble; a part of it has the mean.
      const auto how = config_.aggregate == "weighted" && k + 1 < config_.num_members
                           ? std::string("mean")
                           : config_.aggregate;
      const auto served = [&](const at::Tensor& rewards_MN) {
        return aggregate_members(rewards_MN, how, config_.std_coef, config_.member_weights);
      };
      const auto chosen_N = served(chosen_MN), rejected_N = served(rejected_MN);
      const auto spread_N = logits_MN.std(/*dim=*/0, /*unbiased=*/false);
      for (int64_t n = 0; n < chosen_N.size(0); ++n) {
        const double logit = (chosen_N[n] - rejected_N[n]).item<double>();
        right += logit > 0;
        pairs.push_back({.logit = logit,
                         .chosen = chosen_N[n].item<double>(),
                         .rejected = rejected_N[n].item<double>(),
                         .chosen_tokens = lengths_[static_cast<size_t>(2 * n)],
                         .rejected_tokens = lengths_[static_cast<size_t>(2 * n + 1)],
                         .disagreement = spread_N[n].item<double>()});
      }
      recorder.record("eval_accuracy",
                      pairs.empty() ? 0.0 : right / static_cast<double>(pairs.size()),
                      Reduce::kMean, static_cast<double>(pairs.size()));
      const auto member_right = (logits_.back() > 0).sum().item<double>();
      recorder.record("eval_member_accuracy",
                      pairs.empty() ? 0.0 : member_right / static_cast<double>(pairs.size()),
                      Reduce::kMean, static_cast<double>(pairs.size()));
      record_inspection(run, k + 1, pairs, {});
    }
    run.flush_evaluation(k + 1);
  }

  void read_pairs(TrainingRun& run, const Dataset& data) {
    const auto rank = static_cast<int64_t>(run.comm().rank());
    for (int64_t row = rank; row < data.size(); row += run.comm().size())
      examples_.push_back(data.get(row));
    for (const auto& example : examples_) {
      if (example.chosen.empty() || example.rejected.empty())
        throw DataError("eval_data: row " + std::to_string(example.row + 1) +
                        ": an ensemble is evaluated on \"chosen\" and \"rejected\"");
      texts_.push_back({&example, example.chosen});
      texts_.push_back({&example, example.rejected});
    }
    // A number of any tokenizer's tokens does to sort texts by length: the recipe's.
    for (const auto& text : texts_)
      lengths_.push_back(
          static_cast<int64_t>(run.tokenizer().encode(as_text(text.completion, "\n")).size()));
  }

  void add_member(TrainingRun& run, int64_t k) {
    const auto scorer = TextScorer::load(member_folder(run, k) / "final",
                                         {.dtype = parse_dtype(run.recipe().model.dtype)});
    std::vector<double> logits, chosen, rejected;
    for (const auto& each : scorer->compare(texts_)) {
      logits.push_back(each.logit);
      chosen.push_back(each.first.value);
      rejected.push_back(each.second.value);
    }
    logits_.push_back(at::tensor(logits, at::kDouble));
    chosen_.push_back(at::tensor(chosen, at::kDouble));
    rejected_.push_back(at::tensor(rejected, at::kDouble));
  }

  /// final/: the members' models, moved there, and what says that they belong together.
  void finish(TrainingRun& run) {
    if (run.comm().is_main()) {
      const auto temporary = run.output_dir() / ".tmp-final";
      std::error_code ignored;
      fs::remove_all(temporary, ignored);
      fs::create_directories(temporary);
      std::vector<std::string> names;
      for (int64_t k = 0; k < config_.num_members; ++k) {
        names.push_back(std::to_string(k));
        fs::copy(member_folder(run, k) / "final", temporary / names.back(),
                 fs::copy_options::recursive | fs::copy_options::create_hard_links);
      }
      write_ensemble(temporary, names, config_.aggregate, config_.std_coef, config_.member_weights);
      fs::remove_all(run.output_dir() / "final", ignored);
      fs::rename(temporary, run.output_dir() / "final");
    }
    const auto report = run.recorder().write_report();
    log_info("ensemble: " + (run.output_dir() / "final").string());
    if (run.comm().is_main()) log_info("report: " + report.string());
    run.comm().barrier();
  }

  Config config_;
  std::vector<Example> examples_;  // before texts_ that point into it
  std::vector<TextScorer::Text> texts_;
  std::vector<int64_t> lengths_;
  std::vector<at::Tensor> logits_, chosen_, rejected_;  // [N] of each member
};

MEED_REGISTER(algorithms, "reward_ensemble", RewardEnsemble,
              "Several reward models by one recipe, served as one.");

}  // namespace
}  // namespace meed
