#include "algorithms/grpo.h"

#include <ATen/ATen.h>

#include <cmath>

#include "algorithms/token_rewards.h"
#include "libpolicy/core/log.h"
#include "libpolicy/core/random.h"
#include "libpolicy/core/run_context.h"
#include "libpolicy/losses/advantages.h"
#include "libpolicy/losses/covariance_selection.h"

namespace meed {
namespace {

/// Rewards of every completion's steps, read where they end; none of completions without rewards.
std::vector<std::vector<std::vector<double>>> step_rewards(const ScoredRollouts& rollouts) {
  std::vector<std::vector<std::vector<double>>> steps_PGS;
  for (size_t p = 0; p < rollouts.groups.size(); ++p) {
    auto& row = steps_PGS.emplace_back();
    for (size_t g = 0; g < rollouts.groups[p].completions.size(); ++g) {
      auto& steps = row.emplace_back();
      if (rollouts.tokens_PGT.empty() || rollouts.tokens_PGT[p][g].empty()) continue;
      const auto& tokens = rollouts.tokens_PGT[p][g];
      for (const int64_t end : rollouts.groups[p].completions[g].step_ends)
        steps.push_back(tokens.at(static_cast<size_t>(end)));
    }
  }
  return steps_PGS;
}

at::Tensor advantages_of(const ScoredRollouts& rollouts, const Grpo::Config& config,
                         Communicator& comm) {
  if (config.process_supervision == "steps") return at::zeros_like(rollouts.rewards_PG, at::kFloat);
  if (config.process_supervision == "outcome_and_steps")
    return completion_advantages("group", terminal_rewards(rollouts), {}, config.scale_rewards,
                                 comm, config.std == "population");
  const bool population = config.std == "population";
  if (config.multi_objective_aggregation != "sum_then_normalize") {
    std::vector<WeightedRewards> rewards;
    for (const auto& [name, rewards_PG] : rollouts.transformed)
      rewards.push_back({rewards_PG, rollouts.weights.at(name)});
    return multi_objective_advantages(config.multi_objective_aggregation, rewards,
                                      config.scale_rewards, comm, population);
  }
  auto lengths_PG = at::zeros_like(rollouts.rewards_PG);
  for (size_t p = 0; p < rollouts.groups.size(); ++p)
    for (size_t g = 0; g < rollouts.groups[p].completions.size(); ++g)
      lengths_PG[static_cast<int64_t>(p)][static_cast<int64_t>(g)] =
          static_cast<double>(rollouts.groups[p].completions[g].token_ids.size());
  const auto rewards_PG = rollouts.greedy_P.defined()
                              ? rollouts.rewards_PG - rollouts.greedy_P.unsqueeze(1)
                              : rollouts.rewards_PG;
  return completion_advantages(config.advantage_estimator, rewards_PG, lengths_PG,
                               config.scale_rewards, comm, population);
}

}  // namespace

void Grpo::Config::fields(FieldVisitor& v) {
  v.choice("loss_type", loss.loss_type, policy_gradient_loss_types(),
           "grpo, sapo, gmpo: mean over sequences of their token means; luspo: of their sums; "
           "dr_grpo: sum over tokens by completions x max_completion_length; the others: mean "
           "over tokens.");
  v.field("beta", loss.beta,
          "Weight of the KL divergence to the reference; 0: no reference is held.");
  v.choice("kl_estimator", loss.kl_estimator, {"k1", "k2", "k3"}, "Estimator of that KL.");
  v.field("use_bias_correction_kl", loss.use_bias_correction_kl,
          "Multiply the KL estimate by the ratio.");
  v.field("epsilon", loss.epsilon, "Lower clip range of the ratio.");
  v.field("epsilon_high", epsilon_high,
          "Upper clip range (cispo: upper bound of the ratio); null: epsilon.");
  v.field("delta", loss.delta,
          "Upper bound of the ratio where the advantage is negative (two-sided clipping); "
          "null: none.");
  v.choice("importance_sampling_level", loss.importance_sampling_level, {"token", "sequence"},
           "Ratio per token, or per sequence (GSPO).");
  v.choice("advantage_estimator", advantage_estimator, advantage_estimators(),
           "group: GRPO; rloo: less the mean of the others; remax: less the reward of a greedy "
           "completion; opo: less the mean by length; gpg; pass_at_k.");
  v.choice("scale_rewards", scale_rewards, {"group", "batch", "none"},
           "Divide advantages by the group's, the batch's or no standard deviation.");
  v.choice("std", std, {"sample", "population"}, "Deviation with ddof 1, as TRL, or ddof 0.");
  v.choice("multi_objective_aggregation", multi_objective_aggregation,
           {"sum_then_normalize", "normalize_then_sum", "sum_of_advantages"},
           "Several rewards: advantages of their sum; of each by group, summed and standardised "
           "over the batch (GDPO); or the weighted sum of each one's advantages (Pref-GRPO).");
  v.choice(
      "process_supervision", process_supervision, {"none", "steps", "outcome_and_steps"},
      "steps: a token's advantage is the sum of the rewards, standardised over the steps of its "
      "group, of the steps that end at or after it (DeepSeekMath, 4.1.3); outcome_and_steps: "
      "plus the outcome's advantage; none: outcomes alone.");
  reference.fields(v);
  v.field("num_iterations", num_iterations, "Passes over each generation.");
  v.field("mask_truncated_completions", mask_truncated_completions,
          "Leave completions that hit the length limit out of the loss.");
  v.field("top_entropy_quantile", top_entropy_quantile,
          "Share of the generation's tokens, those of largest entropy, that learn.");
  v.field("entropy_coef", loss.entropy_coef, "Weight of the entropy bonus.");
  entropy.fields(v);
  v.field("off_policy_mask_threshold", loss.off_policy_mask_threshold,
          "Drop completions of negative advantage whose mean log-ratio to the sampling policy "
          "is above this; null: none.");
  v.choice("importance_sampling_correction", importance_sampling_correction,
           {"none", "token_truncate", "token_mask", "sequence_truncate", "sequence_mask"},
           "Weigh by the ratio of the training forward to the sampling engine.");
  v.field("importance_sampling_clip_min", importance_sampling_clip_min,
          "Least ratio: smaller ones are raised to it, or masked.");
  v.field("importance_sampling_clip_max", importance_sampling_clip_max,
          "Largest ratio: larger ones are cut to it, or masked.");
  v.field("pre_clip", pre_clip,
          "Ratios are kept within [1 / pre_clip, pre_clip], without a gradient beyond "
          "(StableReinforce: 1000); null: none.");
  v.field("sapo_temperature_pos", loss.sapo_temperature_pos, "sapo, advantages above 0.");
  v.field("sapo_temperature_neg", loss.sapo_temperature_neg, "sapo, the others.");
  v.field("vespo_k_pos", loss.vespo_k_pos, "vespo, advantages not below 0.");
  v.field("vespo_lambda_pos", loss.vespo_lambda_pos, "vespo, advantages not below 0.");
  v.field("vespo_k_neg", loss.vespo_k_neg, "vespo, advantages below 0.");
  v.field("vespo_lambda_neg", loss.vespo_lambda_neg, "vespo, advantages below 0.");
  v.field("clip_cov_ratio", loss.clip_cov_ratio, "clip_cov: share of tokens left out.");
  v.field("clip_cov_low", loss.clip_cov_low, "clip_cov: least covariance of these.");
  v.field("clip_cov_high", loss.clip_cov_high, "clip_cov: largest covariance of these.");
  v.field("kl_cov_ratio", loss.kl_cov_ratio, "kl_cov: share of tokens with the penalty.");
  v.field("kl_cov_coef", loss.kl_cov_coef, "kl_cov: weight of the penalty.");
  v.require(loss.beta >= 0, "beta", "must not be negative");
  v.require(loss.epsilon > 0, "epsilon", "must be positive");
  v.require(!epsilon_high || *epsilon_high > 0, "epsilon_high", "must be positive, or null");
  v.require(!loss.delta || *loss.delta > 1, "delta", "must be above 1, or null");
  v.require(num_iterations > 0, "num_iterations", "must be positive");
  v.require(top_entropy_quantile > 0 && top_entropy_quantile <= 1, "top_entropy_quantile",
            "must be in (0, 1]");
  v.require(importance_sampling_clip_min >= 0 &&
                importance_sampling_clip_max > importance_sampling_clip_min,
            "importance_sampling_clip_max", "must be above importance_sampling_clip_min >= 0");
  v.require(!pre_clip || *pre_clip > 1, "pre_clip", "must be above 1, or null");
  v.require(multi_objective_aggregation == "sum_then_normalize" || advantage_estimator == "group",
            "multi_objective_aggregation", "needs advantage_estimator: group");
  const bool by_step = process_supervision != "none";
  v.require(!by_step || advantage_estimator == "group", "process_supervision",
            "needs advantage_estimator: group");
  v.require(!by_step || multi_objective_aggregation == "sum_then_normalize", "process_supervision",
            "needs multi_objective_aggregation: sum_then_normalize: steps are summed over rewards");
  v.require(!by_step || loss.importance_sampling_level == "token", "process_supervision",
            "needs importance_sampling_level: token: a sequence's ratio has one advantage");
  v.require(!by_step || (loss.loss_type != "gmpo" && loss.loss_type != "vespo"),
            "process_supervision",
            "cannot go with loss_type: " + loss.loss_type + ", which weighs whole sequences");
  v.require(!reference.sync_ref_model || loss.beta > 0, "sync_ref_model",
            "needs a beta above 0: without one no reference is held");
  v.require(loss.sapo_temperature_pos > 0 && loss.sapo_temperature_neg > 0, "sapo_temperature_pos",
            "and sapo_temperature_neg must be positive");
}

Grpo::Grpo(const Config& config, RunContext& context)
    : config_(config), entropy_(config.entropy, config.loss.entropy_coef), seed_(context.seed) {
  auto& loss = config_.loss;
  loss.epsilon_high = config.epsilon_high.value_or(loss.epsilon);
  if (config.pre_clip) loss.pre_clip = std::log(*config.pre_clip);
  loss.importance_ratio_by_sequence = config.importance_sampling_correction.starts_with("sequence");
}

at::Tensor Grpo::advantages(const ScoredRollouts& rollouts, Communicator& comm) {
  if (!rollouts.tokens_PGT.empty() && !by_token() && !warned_) {
    log_warn(
        "algorithm: grpo reads one reward a completion; rewards of steps are left out "
        "(process_supervision: steps or outcome_and_steps reads them)");
    warned_ = true;
  }
  advantages_PG_ = advantages_of(rollouts, config_, comm);
  if (!by_token()) return advantages_PG_;
  advantages_PGS_ = process_advantages(step_rewards(rollouts), config_.scale_rewards, comm,
                                       config_.std == "population");
  auto first_PG = advantages_PG_.clone();
  for (size_t p = 0; p < advantages_PGS_.size(); ++p)
    for (size_t g = 0; g < advantages_PGS_[p].size(); ++g)
      if (!advantages_PGS_[p][g].empty())
        first_PG[static_cast<int64_t>(p)][static_cast<int64_t>(g)] += advantages_PGS_[p][g][0];
  return first_PG;
}

void Grpo::token_advantages(const ScoredRollouts& rollouts, std::span<CompletionTokens> completions,
                            Communicator&, MetricsWriter& metrics) {
  double steps = 0.0;
  for (auto& each : completions) {
    const auto& advantages_S = advantages_PGS_[each.group][each.index];
    const auto& ends = rollouts.groups[each.group].completions[each.index].step_ends;
    const double outcome =
        advantages_PG_[static_cast<int64_t>(each.group)][static_cast<int64_t>(each.index)]
            .item<double>();
    std::vector<double> tokens(static_cast<size_t>(each.mask_T.numel()), outcome);
    for (size_t s = 0, t = 0; s < advantages_S.size(); ++s)
      for (; static_cast<int64_t>(t) <= ends[s]; ++t) tokens[t] += advantages_S[s];
    each.advantages_T = at::tensor(tokens, at::kFloat);
    steps += static_cast<double>(advantages_S.size());
  }
  if (const auto count = static_cast<double>(completions.size()); count > 0)
    metrics.record("completions/mean_steps", steps / count, Reduce::kMean, count);
}

void Grpo::begin_update(const ScoredRollouts& rollouts, std::span<CompletionTokens> completions,
                        Communicator& comm) {
  ++updates_;
  if (!needs_current_logprobs()) return;
  std::vector<at::Tensor> advantages, keys;
  for (const auto& each : completions) {
    const int64_t length = each.mask_T.numel();
    advantages.push_back(
        each.advantages_T.defined()
            ? each.advantages_T
            : advantages_PG_[static_cast<int64_t>(each.group)][static_cast<int64_t>(each.index)]
                  .expand({length}));
    const auto name = mix_seed(
        {static_cast<uint64_t>(rollouts.places[each.group]), static_cast<uint64_t>(each.index)});
    keys.push_back(at::arange(length, at::kLong) + static_cast<int64_t>(name >> 8));
  }
  const auto old_member = !completions.empty() && completions[0].old_logprobs_T.defined()
                              ? &CompletionTokens::old_logprobs_T
                              : &CompletionTokens::logprobs_T;
  auto options = config_.loss;
  options.seed = mix_seed({seed_, static_cast<uint64_t>(updates_)});
  const auto selected_M = covariance_selection(
      options,
      {.logprobs_M = joined(completions, &CompletionTokens::logprobs_T),
       .old_logprobs_M = joined(completions, old_member),
       .advantages_M = advantages.empty() ? at::empty({0}) : at::cat(advantages),
       .mask_M = joined(completions, &CompletionTokens::mask_T),
       .keys_M = keys.empty() ? at::empty({0}, at::kLong) : at::cat(keys)},
      &comm);
  const auto parts = split_like(selected_M, completions);
  for (size_t i = 0; i < completions.size(); ++i) completions[i].selected_T = parts[i];
}

bool Grpo::learns_without_advantage() const {
  return config_.loss.beta > 0.0 || entropy_.value() != 0.0 || config_.loss.loss_type == "kl_cov";
}

LossOutput Grpo::loss(const PolicyBatch& batch, const UpdateTotals& totals,
                      int64_t max_completion_length) {
  PolicyGradientInputs in{.logprobs_M = batch.logprobs_M,
                          .old_logprobs_M = batch.old_logprobs_M,
                          .ref_logprobs_M = batch.ref_logprobs_M,
                          .mask_M = batch.mask_M,
                          .completion_M = batch.completion_M,
                          .advantages_C = batch.advantages_C,
                          .advantages_M = batch.advantages_M,
                          .entropy_M = batch.entropy_M,
                          .entropy_mask_M = batch.entropy_mask_M,
                          .sampling_logprobs_M = batch.sampling_logprobs_M,
                          .selected_M = batch.selected_tokens_M};
  auto options = config_.loss;
  const auto& mode = config_.importance_sampling_correction;
  if (mode != "none")
    in.importance_ratio_M = importance_sampling_correction(
        batch.old_logprobs_M, batch.sampling_logprobs_M, batch.mask_M, batch.completion_M,
        batch.num_completions, mode, config_.importance_sampling_clip_max,
        config_.importance_sampling_clip_min);
  options.entropy_coef = entropy_.value();
  entropy_.add(batch);
  return policy_gradient_loss(in, options,
                              {.num_tokens = totals.num_tokens,
                               .num_completions = totals.num_completions,
                               .max_completion_length = max_completion_length,
                               .num_entropy_tokens = totals.num_entropy_tokens});
}

void Grpo::end_update(Communicator& comm, MetricsWriter& metrics) {
  entropy_.end_update(comm, metrics);
}

void Grpo::save(StateDict& state) const {
  state.integers["updates"] = updates_;
  save_under(state, "entropy", entropy_);
}

void Grpo::load(const StateDict& state) {
  updates_ = state.integers.at("updates");
  load_under(state, "entropy", entropy_);
}

MEED_REGISTER(algorithms, "grpo", Grpo,
              "Group relative policy optimisation with every loss of its family.");

}  // namespace meed
