#include "algorithms/rollout_update_loop.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <chrono>
#include <numeric>

#include "algorithms/policy.h"
#include "algorithms/rollout_sampler.h"
#include "algorithms/training_run.h"
#include "libpolicy/core/error.h"
#include "libpolicy/models/token_logprobs.h"

// One generation, on every rank:
//
//   rows        Sampler::next: the prompts of the global batch; prompt i belongs to rank i mod size
//   rollout     RolloutSampler::sample: P groups of G completions, seeds from (run seed, place in
//   the data, g) reward      RewardPipeline::score (inside the sampler): rewards_PG and its
//   components advantage   OnlineAlgorithm::advantages: [P, G] old, ref    log-probabilities by the
//   training forward, where more than one update or a KL term needs them update      for each
//   iteration, for each share of the groups: micro-batches by token budget -> loss -> backward;
//               Learner::update reduces over ranks, clips, steps; the engine takes the new weights
//   record      metrics, completions, checkpoint

namespace meed {
namespace {

class RolloutUpdateLoop {
 public:
  RolloutUpdateLoop(TrainingRun& run, OnlineAlgorithm& algorithm)
      : run_(run),
        algorithm_(algorithm),
        recipe_(run.recipe()),
        policy_(recipe_, run.seed()),
        rollouts_(run, policy_.model()),
        prompts_per_generation_(count_prompts()),
        updates_per_generation_(count_updates()),
        total_steps_(run.total_steps(prompts_per_generation_, updates_per_generation_)),
        sampler_(run.data().size(), run.seed()),
        learner_(trainable(), recipe_.optim, recipe_.run.on_nan, total_steps_,
                 run.comm(), run.recorder()) {}

  void train() {
    run_.recorder().set_total_steps(total_steps_);
    if (const auto state = run_.restore(learner_)) {
      sampler_.seek(state->integers.at("sampler.position"));
      rollouts_.load_state_dict(state->under("rewards"));
      load_under(*state, "algorithm", algorithm_);
      rollouts_.refresh_weights(learner_.step());
    }
    if (learner_.step() == 0 && recipe_.run.eval_on_start)
      rollouts_.evaluate("before", learner_.step());
    while (learner_.step() < total_steps_ && !run_.stop_requested()) {
      const int64_t before = learner_.step();
      generation();
      const int64_t done = learner_.step();
      if (run_.is_due(recipe_.run.eval_steps, before, done, total_steps_) || done >= total_steps_)
        rollouts_.evaluate(done >= total_steps_ ? "after" : "eval", done);
      if (run_.is_due(recipe_.run.save_steps, before, done, total_steps_)) save();
    }
    if (run_.stopped() && learner_.step() < total_steps_) {
      save();
      return;
    }
    run_.finish(learner_);
  }

 private:
  TrainableModel trainable() {
    auto model = policy_.trainable(run_);
    algorithm_.prepare(run_, model);
    return model;
  }

  int64_t steps_per_generation() const {
    return recipe_.rollout.steps_per_generation.value_or(recipe_.optim.gradient_accumulation_steps);
  }

  int64_t count_prompts() const {
    const int64_t completions =
        recipe_.optim.per_device_train_batch_size * run_.comm().size() * steps_per_generation();
    const int64_t group = recipe_.rollout.num_generations;
    if (completions % group != 0)
      throw ConfigError(
          "optim.per_device_train_batch_size x processes x steps_per_generation = " +
          std::to_string(completions) +
          " completions, not a multiple of rollout.num_generations = " + std::to_string(group));
    return completions / group;
  }

  int64_t count_updates() const {
    const int64_t accumulation = recipe_.optim.gradient_accumulation_steps;
    if (steps_per_generation() % accumulation != 0)
      throw ConfigError(
          "rollout.steps_per_generation: must be a multiple of optim.gradient_accumulation_steps");
    const int64_t shares = steps_per_generation() / accumulation;
    if (shares > prompts_per_generation_)
      throw ConfigError("rollout.steps_per_generation: more updates than prompts in a generation");
    return shares * algorithm_.num_iterations();
  }

  int64_t num_shares() const { return updates_per_generation_ / algorithm_.num_iterations(); }

  /// Which update a group takes part in: by its place in the generation over all ranks, so that an
  /// update has the same prompts on any number of processes.
  int64_t share_of(const CompletionTokens& item) const {
    const int64_t place =
        static_cast<int64_t>(item.group) * run_.comm().size() + run_.comm().rank();
    return place * num_shares() / prompts_per_generation_;
  }

  void generation() {
    const auto started = std::chrono::steady_clock::now();
    const int64_t position = sampler_.position();
    const auto rows = sampler_.next(prompts_per_generation_);
    const auto scored = rollouts_.sample(rows, position, learner_.step());
    const auto advantages_PG = algorithm_.advantages(scored, run_.comm());
    rollouts_.record(scored, advantages_PG, learner_.step() + 1);
    run_.recorder().record("epoch", sampler_.epoch(), Reduce::kMax);
    auto items = make_items(scored);
    if (needs_old_logprobs()) compute_old_logprobs(scored, items);
    if (algorithm_.needs_reference()) compute_ref_logprobs(scored, items);
    if (algorithm_.by_token()) {
      compute_values(scored, items);
      algorithm_.token_advantages(scored, items, run_.comm(), run_.recorder());
    }
    entropy_threshold_ = entropy_threshold(items);
    for (int64_t iteration = 0; iteration < algorithm_.num_iterations(); ++iteration) {
      for (int64_t share = 0; share < num_shares() && learner_.step() < total_steps_; ++share) {
        const auto begun =
            iteration == 0 && share == 0 ? started : std::chrono::steady_clock::now();
        update(scored, advantages_PG, items, share, /*first=*/iteration == 0);
        const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - begun;
        run_.recorder().record("step_time", taken.count(), Reduce::kMax);
        run_.recorder().flush(learner_.step());
      }
    }
    algorithm_.after_update(scored, run_.comm(), run_.recorder());
    rollouts_.refresh_weights(learner_.step());
  }

  std::vector<CompletionTokens> make_items(const ScoredRollouts& scored) const {
    std::vector<CompletionTokens> items;
    for (size_t p = 0; p < scored.groups.size(); ++p)
      for (size_t g = 0; g < scored.groups[p].completions.size(); ++g)
        if (const auto& completion = scored.groups[p].completions[g];
            !completion.token_ids.empty())
          items.push_back({.group = p, .index = g, .mask_T = token_mask(completion)});
    return items;
  }

  /// Runs of items within the token budget; a group's prompt counts once in each.
  std::vector<std::span<CompletionTokens>> micro_batches(const ScoredRollouts& scored,
                                             std::span<CompletionTokens> items) const {
    std::vector<std::span<CompletionTokens>> batches;
    size_t first = 0;
    int64_t tokens = 0;
    for (size_t i = 0; i < items.size(); ++i) {
      const auto& group = scored.groups[items[i].group];
      const bool new_group = i == first || items[i].group != items[i - 1].group;
      const auto length = static_cast<int64_t>(group.completions[items[i].index].token_ids.size());
      const auto prompt = static_cast<int64_t>(group.prompt_ids.size());
      if (i > first &&
          tokens + length + (new_group ? prompt : 0) > recipe_.optim.max_tokens_per_micro_batch) {
        batches.push_back(items.subspan(first, i - first));
        first = i;
        tokens = prompt;
      } else if (new_group) {
        tokens += prompt;
      }
      tokens += length;
    }
    if (first < items.size()) batches.push_back(items.subspan(first));
    return batches;
  }

  struct Packed {
    PackedBatch batch;
    at::Tensor selected_M, completion_M;
    std::vector<int64_t> lengths;
  };

  static Packed pack(const ScoredRollouts& scored, std::span<const CompletionTokens> items) {
    PackedBatchBuilder builder;
    std::vector<int64_t> selected, completion;
    Packed packed;
    int64_t prompt = -1;
    for (size_t i = 0; i < items.size(); ++i) {
      const auto& group = scored.groups[items[i].group];
      if (i == 0 || items[i].group != items[i - 1].group) prompt = builder.add(group.prompt_ids);
      const auto& ids = group.completions[items[i].index].token_ids;
      const int64_t first = builder.num_tokens();
      builder.add(ids, prompt);
      for (int64_t n = first; n < builder.num_tokens(); ++n) {
        selected.push_back(n);
        completion.push_back(static_cast<int64_t>(i));
      }
      packed.lengths.push_back(static_cast<int64_t>(ids.size()));
    }
    packed.batch = builder.build();
    packed.selected_M = at::tensor(selected, at::kLong);
    packed.completion_M = at::tensor(completion, at::kLong);
    return packed;
  }

  bool needs_old_logprobs() const {
    return updates_per_generation_ > 1 || algorithm_.needs_old_logprobs() ||
           (algorithm_.by_token() && algorithm_.needs_reference()) ||
           algorithm_.top_entropy_quantile() < 1.0;
  }

  TokenLogprobs without_gradient(CausalLm& model, const Packed& packed, bool entropy) const {
    at::NoGradGuard no_grad;
    return token_logprobs(model, packed.batch, packed.selected_M, recipe_.rollout.temperature,
                          entropy);
  }

  /// Gives each completion its part of the values of a micro-batch's tokens.
  static void assign(std::span<CompletionTokens> batch, at::Tensor CompletionTokens::*member,
                     const at::Tensor& values_M, const Packed& packed) {
    const auto parts = values_M.split_with_sizes(packed.lengths);
    for (size_t i = 0; i < batch.size(); ++i) batch[i].*member = parts[i];
  }

  void compute_old_logprobs(const ScoredRollouts& scored, std::vector<CompletionTokens>& items) {
    const bool entropy = algorithm_.top_entropy_quantile() < 1.0;
    for (const auto& batch : micro_batches(scored, items)) {
      const auto packed = pack(scored, batch);
      const auto tokens = without_gradient(policy_.model(), packed, entropy);
      assign(batch, &CompletionTokens::old_logprobs_T, tokens.logprobs_M, packed);
      if (entropy) assign(batch, &CompletionTokens::entropy_T, tokens.entropy_M, packed);
    }
  }

  void compute_ref_logprobs(const ScoredRollouts& scored, std::vector<CompletionTokens>& items) {
    for (const auto& batch : micro_batches(scored, items)) {
      const auto packed = pack(scored, batch);
      const auto logprobs_M = policy_.with_reference([&](CausalLm& model) {
        return without_gradient(model, packed, /*entropy=*/false).logprobs_M;
      });
      assign(batch, &CompletionTokens::ref_logprobs_T, logprobs_M, packed);
    }
  }

  void compute_values(const ScoredRollouts& scored, std::vector<CompletionTokens>& items) {
    if (!algorithm_.has_critic()) return;
    at::NoGradGuard no_grad;
    for (const auto& batch : micro_batches(scored, items)) {
      const auto packed = pack(scored, batch);
      assign(batch, &CompletionTokens::values_T,
             algorithm_.values(packed.batch, packed.selected_M), packed);
    }
  }

  /// The entropy from which a token belongs to the top share of the generation, over all ranks;
  /// below every entropy if all belong. As torch.quantile, between two values in proportion.
  double entropy_threshold(std::span<const CompletionTokens> items) {
    const double share = algorithm_.top_entropy_quantile();
    if (share >= 1.0) return -1.0;
    std::vector<at::Tensor> parts{at::empty({0})};
    for (const auto& item : items)
      parts.push_back(item.entropy_T.masked_select(item.mask_T > 0));
    const auto all = at::cat(all_gather_ragged(run_.comm(), at::cat(parts)));
    return all.numel() > 0 ? at::quantile(all, 1.0 - share).item<double>() : -1.0;
  }

  /// 1 on the tokens that count: sampled by the policy, in a completion that is not masked.
  at::Tensor token_mask(const Completion& completion) const {
    const auto length = static_cast<int64_t>(completion.token_ids.size());
    if (algorithm_.mask_truncated_completions() &&
        completion.finish_reason == FinishReason::kLength)
      return at::zeros({length});
    if (completion.loss_mask.empty()) return at::ones({length});
    return at::tensor(std::vector<float>(completion.loss_mask.begin(), completion.loss_mask.end()));
  }

  /// 1 on the tokens of largest entropy.
  at::Tensor entropy_mask(const at::Tensor& entropies) const {
    return (entropies >= entropy_threshold_).to(at::kFloat);
  }

  UpdateTotals totals_of(std::span<const CompletionTokens> items) {
    double tokens = 0.0, entropy_tokens = 0.0;
    for (const auto& item : items) {
      tokens += item.mask_T.sum().item<double>();
      if (item.entropy_T.defined())
        entropy_tokens += (entropy_mask(item.entropy_T) * item.mask_T).sum().item<double>();
    }
    at::Tensor sums =
        at::tensor({tokens, static_cast<double>(items.size()), entropy_tokens}, at::kDouble);
    run_.comm().all_reduce(sums, ReduceOp::kSum);
    return {.num_tokens = sums[0].item<double>(),
            .num_completions = sums[1].item<double>(),
            .num_entropy_tokens = sums[2].item<double>()};
  }

  void update(const ScoredRollouts& scored, const at::Tensor& advantages_PG,
              std::vector<CompletionTokens>& items, int64_t share, bool first) {
    std::vector<CompletionTokens> mine;
    for (const auto& item : items)
      if (share_of(item) == share) mine.push_back(item);
    const auto totals = totals_of(mine);
    int64_t tokens = 0;
    for (const auto& batch : micro_batches(scored, mine)) {
      const auto packed = pack(scored, batch);
      learner_.accumulate(micro_batch_loss(scored, advantages_PG, batch, packed, totals, first));
      tokens += packed.batch.num_tokens();
    }
    learner_.update();
    run_.record_tokens(tokens);
  }

  LossOutput micro_batch_loss(const ScoredRollouts& scored, const at::Tensor& advantages_PG,
                              std::span<const CompletionTokens> items, const Packed& packed,
                              const UpdateTotals& totals, bool first) {
    const auto tokens = token_logprobs(policy_.model(), packed.batch, packed.selected_M,
                                       recipe_.rollout.temperature,
                                       /*with_entropy=*/true);
    PolicyBatch batch{.packed = &packed.batch,
                      .selected_M = packed.selected_M,
                      .logprobs_M = tokens.logprobs_M,
                      .entropy_M = tokens.entropy_M,
                      .completion_M = packed.completion_M,
                      .num_completions = static_cast<int64_t>(items.size())};
    std::vector<float> advantages, sampled;
    for (const auto& item : items) {
      const auto& completion = scored.groups[item.group].completions[item.index];
      advantages.push_back(
          advantages_PG[static_cast<int64_t>(item.group)][static_cast<int64_t>(item.index)]
              .item<float>());
      sampled.insert(sampled.end(), completion.logprobs.begin(), completion.logprobs.end());
    }
    const auto gathered = [&](at::Tensor CompletionTokens::*member) {
      std::vector<at::Tensor> parts;
      for (const auto& item : items)
        if ((item.*member).defined()) parts.push_back(item.*member);
      return parts.empty() ? at::Tensor() : at::cat(parts);
    };
    batch.mask_M = gathered(&CompletionTokens::mask_T);
    batch.old_logprobs_M = gathered(&CompletionTokens::old_logprobs_T);
    if (!batch.old_logprobs_M.defined()) batch.old_logprobs_M = tokens.logprobs_M.detach();
    batch.sampling_logprobs_M = at::tensor(sampled);
    batch.ref_logprobs_M = gathered(&CompletionTokens::ref_logprobs_T);
    batch.advantages_C = at::tensor(advantages);
    batch.advantages_M = gathered(&CompletionTokens::advantages_T);
    batch.returns_M = gathered(&CompletionTokens::returns_T);
    batch.old_values_M = gathered(&CompletionTokens::values_T);
    if (const auto entropies_M = gathered(&CompletionTokens::entropy_T); entropies_M.defined())
      batch.entropy_mask_M = entropy_mask(entropies_M);
    auto output = algorithm_.loss(batch, totals, recipe_.rollout.max_completion_length);
    const double count = batch.mask_M.sum().item<double>();
    output.metrics["entropy"] = {
        (tokens.entropy_M.detach() * batch.mask_M).sum().item<double>(), count};
    if (first) record_sampling_difference(batch, count);
    return output;
  }

  /// How far the engine's log-probabilities are from the training forward's.
  void record_sampling_difference(const PolicyBatch& batch, double count) {
    if (count <= 0.0) return;
    const auto gap_M = (batch.old_logprobs_M - batch.sampling_logprobs_M) * batch.mask_M;
    const auto ratio_M = gap_M.exp();
    auto& recorder = run_.recorder();
    recorder.record("sampling/sampling_logp_difference/mean",
                    gap_M.abs().sum().item<double>() / count, Reduce::kMean, count);
    recorder.record("sampling/sampling_logp_difference/max", gap_M.abs().max().item<double>(),
                    Reduce::kMax);
    recorder.record("sampling/importance_sampling_ratio/mean",
                    (ratio_M * batch.mask_M).sum().item<double>() / count, Reduce::kMean, count);
    recorder.record("sampling/importance_sampling_ratio/min", ratio_M.min().item<double>(),
                    Reduce::kMin);
    recorder.record("sampling/importance_sampling_ratio/max", ratio_M.max().item<double>(),
                    Reduce::kMax);
  }

  void save() {
    StateDict state;
    state.integers["sampler.position"] = sampler_.position();
    state.add("rewards", rollouts_.state_dict());
    save_under(state, "algorithm", algorithm_);
    run_.save_checkpoint(learner_, std::move(state));
  }

  TrainingRun& run_;
  OnlineAlgorithm& algorithm_;
  const Recipe& recipe_;
  Policy policy_;
  RolloutSampler rollouts_;
  int64_t prompts_per_generation_;
  int64_t updates_per_generation_;
  int64_t total_steps_;
  Sampler sampler_;
  Learner learner_;
  double entropy_threshold_ = -1.0;  ///< of the generation
};

}  // namespace

void OnlineAlgorithm::train(TrainingRun& run) { RolloutUpdateLoop(run, *this).train(); }

}  // namespace meed
