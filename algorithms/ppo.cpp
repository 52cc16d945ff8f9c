#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#include "algorithms/policy.h"
#include "algorithms/token_rewards.h"
#include "algorithms/training_run.h"
#include "libpolicy/losses/gae.h"
#include "libpolicy/losses/policy_gradient.h"
#include "libreward/models/sequence_classifier.h"

namespace meed {
namespace {

/// Proximal policy optimisation (Schulman et al. 2017) with a value model of its own, per-token KL
/// rewards and generalised advantage estimation (Ziegler et al. 2019, Ouyang et al. 2022). Policy
/// and critic take one optimiser step together on loss + vf_coef * value loss.
class Ppo final : public OnlineAlgorithm {
 public:
  struct Config {
    static constexpr const char* kShapes = "outcome step token";
    std::string value_model;
    int64_t num_ppo_epochs = 4;
    double kl_coef = 0.05;
    std::string kl_estimator = "k1";
    std::optional<double> kl_target;
    double kl_horizon = 10000;
    double cliprange = 0.2, cliprange_value = 0.2;
    double vf_coef = 0.1;
    double gamma = 1.0, lam = 0.95;
    bool whiten_rewards = false, whiten_advantages = true;
    std::optional<double> missing_eos_penalty;
    double entropy_coef = 0.0;
    bool mask_truncated_completions = false;
    void fields(FieldVisitor& v) {
      v.field("value_model", value_model,
              "Folder that the critic starts from, such as a reward model; empty: the policy's, "
              "with a new head.");
      v.field("num_ppo_epochs", num_ppo_epochs, "Passes over each generation.");
      v.field("kl_coef", kl_coef,
              "Weight of the KL to the reference in the rewards; 0: no reference is held.");
      v.choice("kl_estimator", kl_estimator, {"k1", "k2", "k3"}, "Estimator of that KL.");
      v.field("kl_target", kl_target,
              "Adapts kl_coef so that a completion's KL comes near this; null: fixed.");
      v.field("kl_horizon", kl_horizon, "Completions over which kl_coef adapts.");
      v.field("cliprange", cliprange, "Clip range of the policy's ratio.");
      v.field("cliprange_value", cliprange_value, "How far a value may move in one generation.");
      v.field("vf_coef", vf_coef, "Weight of the value loss.");
      v.field("gamma", gamma, "Discount.");
      v.field("lam", lam, "Lambda of generalised advantage estimation.");
      v.field("whiten_rewards", whiten_rewards, "Divide token rewards by their deviation.");
      v.field("whiten_advantages", whiten_advantages,
              "Standardise advantages over the tokens of all ranks.");
      v.field("missing_eos_penalty", missing_eos_penalty,
              "Taken off the score of a completion that ran into the length limit; null: none.");
      v.field("entropy_coef", entropy_coef, "Weight of the entropy bonus.");
      v.field("mask_truncated_completions", mask_truncated_completions,
              "Leave completions that hit the length limit out of the loss.");
      v.require(num_ppo_epochs > 0, "num_ppo_epochs", "must be positive");
      v.require(kl_coef >= 0, "kl_coef", "must not be negative");
      v.require(!kl_target || (*kl_target > 0 && kl_coef > 0), "kl_target",
                "must be positive, with a kl_coef above 0 to start from, or null");
      v.require(kl_horizon > 0, "kl_horizon", "must be positive");
      v.require(cliprange > 0 && cliprange < 1, "cliprange", "must be in (0, 1)");
      v.require(cliprange_value > 0, "cliprange_value", "must be positive");
      v.require(vf_coef >= 0, "vf_coef", "must not be negative");
      v.require(gamma > 0 && gamma <= 1, "gamma", "must be in (0, 1]");
      v.require(lam >= 0 && lam <= 1, "lam", "must be in [0, 1]");
    }
  };
  explicit Ppo(const Config& config) : config_(config), kl_coef_(config.kl_coef) {}

  int64_t num_iterations() const override { return config_.num_ppo_epochs; }
  bool needs_reference() const override { return config_.kl_coef > 0.0; }
  bool mask_truncated_completions() const override { return config_.mask_truncated_completions; }
  bool by_token() const override { return true; }
  bool has_critic() const override { return true; }

  /// Loads the critic and adds it to what is trained.
  void prepare(TrainingRun& run, RewardPipeline&, TrainableModel& model) override {
    const auto& recipe = run.recipe();
    const auto& path = config_.value_model.empty() ? recipe.model.path : config_.value_model;
    auto options = load_options(recipe.model, /*trainable=*/true);
    options.lm_head = false;
    critic_ = SequenceClassifier::load(path, options, /*num_labels=*/1, run.seed());
    for (const auto& [name, tensor] : critic_->parameters().trainable())
      model.parameters.emplace_back("critic." + name, tensor);
    model.sync = [policy = model.sync, this] {
      policy();
      critic_->sync_compute_weights();
    };
    const auto save = [this, &run](const std::filesystem::path& folder, at::ScalarType dtype) {
      std::filesystem::create_directory(folder / "critic");
      critic_->save(folder / "critic", &run.tokenizer(), dtype);
    };
    model.save = [policy = model.save, save, &run](const std::filesystem::path& folder) {
      policy(folder);
      save(folder, parse_dtype(run.recipe().model.export_dtype));
    };
    model.save_exact = [policy = model.save_exact, save](const std::filesystem::path& folder) {
      policy(folder);
      save(folder, at::kFloat);
    };
    model.load = [policy = model.load, this](const std::filesystem::path& folder) {
      policy(folder);
      load_parameters(folder / "critic", critic_->parameters());
      critic_->sync_compute_weights();
    };
  }

  at::Tensor advantages(const ScoredRollouts& rollouts, Communicator&) override {
    return at::zeros_like(rollouts.rewards_PG, at::kFloat);
  }

  /// What the critic says before each of the tokens.
  at::Tensor values(const PackedBatch& batch, const at::Tensor& selected_M) override {
    const auto before_M = batch.predecessors_N.index_select(0, selected_M);
    return critic_->forward(batch, before_M).squeeze(-1);
  }

  void token_advantages(const ScoredRollouts& rollouts, std::span<CompletionTokens> completions,
                        Communicator& comm, MetricsWriter& metrics) override {
    std::vector<at::Tensor> rewards;
    ObjectiveSums sums;
    for (const auto& each : completions) {
      auto own = token_rewards(rollouts, each, kl_coef_, config_.kl_estimator);
      const auto& completion = rollouts.groups[each.group].completions[each.index];
      if (config_.missing_eos_penalty && completion.finish_reason == FinishReason::kLength)
        own.rewards_T[-1] -= *config_.missing_eos_penalty;
      sums.kl += own.kl_sum;
      sums.rewards += own.rewards_T.sum().item<double>();
      sums.count += 1.0;
      const double score =
          rollouts.rewards_PG[static_cast<int64_t>(each.group)][static_cast<int64_t>(each.index)]
              .item<double>();
      sums.scores += std::isfinite(score) ? score : 0.0;
      rewards.push_back(own.rewards_T);
    }
    sums.record(metrics);
    metrics.record("objective/kl_coef", kl_coef_, Reduce::kMax);
    at::Tensor totals = at::tensor({sums.kl, sums.count}, at::kDouble);
    comm.all_reduce(totals, ReduceOp::kSum);
    generation_kl_ = totals[0].item<double>() / std::max(1.0, totals[1].item<double>());
    generation_size_ = totals[1].item<double>();

    if (config_.whiten_rewards) {
      const auto rewards_M = rewards.empty() ? at::empty({0}, at::kDouble) : at::cat(rewards);
      rewards = split_like(whitened(rewards_M, joined(completions, &CompletionTokens::mask_T), comm,
                                    /*max_abs=*/0.0, /*shift_mean=*/false),
                           completions);
    }
    for (size_t i = 0; i < completions.size(); ++i) {
      auto& each = completions[i];
      const auto gae = compute_gae(rewards[i], each.values_T.to(at::kDouble), config_.gamma,
                                   config_.lam, each.mask_T);
      each.advantages_T = gae.advantages_T.to(at::kFloat);
      each.returns_T = gae.returns_T.to(at::kFloat);
    }
    if (config_.whiten_advantages) whiten_advantages(completions, comm);
  }

  LossOutput loss(const PolicyBatch& batch, const UpdateTotals& totals, int64_t) override {
    auto output = policy_gradient_loss(
        {.logprobs_M = batch.logprobs_M,
         .old_logprobs_M = batch.old_logprobs_M,
         .mask_M = batch.mask_M,
         .completion_M = batch.completion_M,
         .advantages_M = batch.advantages_M,
         .entropy_M = batch.entropy_M},
        {.loss_type = "dapo",
         .epsilon = config_.cliprange,
         .epsilon_high = config_.cliprange,
         .entropy_coef = config_.entropy_coef},
        {.num_tokens = totals.num_tokens, .num_completions = totals.num_completions});
    const auto values_M = values(*batch.packed, batch.selected_M);
    auto critic = value_loss(values_M, batch.old_values_M, batch.returns_M, batch.mask_M,
                             config_.cliprange_value, totals.num_tokens);
    output.loss = output.loss + config_.vf_coef * critic.loss;
    merge(output.metrics, critic.metrics);
    return output;
  }

  void after_update(const ScoredRollouts&, Communicator&, MetricsWriter&) override {
    if (!config_.kl_target) return;
    // Ziegler et al. 2019, section 2.2.
    const double error = std::clamp(generation_kl_ / *config_.kl_target - 1.0, -0.2, 0.2);
    kl_coef_ *= 1.0 + error * generation_size_ / config_.kl_horizon;
  }
  void save(StateDict& state) const override { state.numbers["kl_coef"] = kl_coef_; }
  void load(const StateDict& state) override { kl_coef_ = state.numbers.at("kl_coef"); }

 private:
  Config config_;
  std::unique_ptr<SequenceClassifier> critic_;
  double kl_coef_;
  double generation_kl_ = 0.0, generation_size_ = 0.0;
};

MEED_REGISTER(algorithms, "ppo", Ppo, "Proximal policy optimisation with a critic.");

}  // namespace
}  // namespace meed
