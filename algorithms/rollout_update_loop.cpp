#include "algorithms/rollout_update_loop.h"

#include <chrono>

#include "algorithms/dynamic_sampling.h"
#include "algorithms/policy.h"
#include "algorithms/policy_updater.h"
#include "algorithms/rollout_archive.h"
#include "algorithms/rollout_sampler.h"
#include "algorithms/training_run.h"
#include "libpolicy/core/error.h"

// One generation, on every rank:
//
//   rows       Sampler::next: the prompts of the global batch; prompt i belongs to rank i mod size
//   rollout    RolloutSampler::sample: P groups of G completions, seeds from (run seed, place in
//   the
//              data, g); sample_dynamically draws further prompts for groups of equal rewards
//   reward     RewardPipeline::score (inside the sampler): rewards_PG and its components
//   advantage  OnlineAlgorithm::advantages: [P, G]
//   old, ref   PolicyUpdater::begin: log-probabilities by the training forward, where more than one
//              update or a KL term needs them; values; advantages by token
//   update     PolicyUpdater::update for each iteration, for each share of the groups:
//   micro-batches
//              by token budget -> loss -> backward; Learner::update reduces over ranks, clips,
//              steps
//   reference  Policy::sync_reference where the reference follows the policy
//   record     metrics, completions, checkpoint; the engine takes the new weights

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
        updater_(run, algorithm, policy_, num_shares(), updates_per_generation_),
        learner_(trainable(), recipe_.optim, recipe_.run.on_nan, total_steps_, run.comm(),
                 run.recorder()) {}

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
    const auto sync = algorithm_.reference_sync();
    auto model = policy_.trainable(run_, /*moving_reference=*/sync && sync->sync_ref_model);
    algorithm_.prepare(run_, rollouts_.rewards(), model);
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

  void generation() {
    const auto started = std::chrono::steady_clock::now();
    const auto scored = rollouts();
    const auto advantages_PG = algorithm_.advantages(scored, run_.comm());
    rollouts_.record(scored, advantages_PG, learner_.step() + 1);
    run_.recorder().record("epoch", sampler_.epoch(), Reduce::kMax);
    if (recipe_.rollout.store)
      RolloutArchive(run_.output_dir() / "rollouts", run_.comm())
          .write(scored, advantages_PG, learner_.step());
    updater_.begin(scored, advantages_PG);
    for (int64_t iteration = 0; iteration < algorithm_.num_iterations(); ++iteration) {
      for (int64_t share = 0; share < num_shares() && learner_.step() < total_steps_; ++share) {
        const auto begun =
            iteration == 0 && share == 0 ? started : std::chrono::steady_clock::now();
        updater_.update(learner_, share, /*first=*/iteration == 0);
        sync_reference();
        const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - begun;
        run_.recorder().record("step_time", taken.count(), Reduce::kMax);
        run_.recorder().flush(learner_.step());
      }
    }
    algorithm_.after_update(scored, run_.comm(), run_.recorder());
    rollouts_.refresh_weights(learner_.step());
  }

  /// The next generation: prompts, completions, rewards.
  ScoredRollouts rollouts() {
    if (!recipe_.rollout.replay.empty())
      return RolloutArchive(recipe_.rollout.replay, run_.comm())
          .read(learner_.step() / updates_per_generation_);
    if (recipe_.rollout.dynamic_sampling)
      return sample_dynamically(run_, rollouts_, sampler_, prompts_per_generation_, learner_.step(),
                                algorithm_.needs_greedy());
    const int64_t position = sampler_.position();
    return rollouts_.sample(sampler_.next(prompts_per_generation_), position, learner_.step(),
                            algorithm_.needs_greedy());
  }

  void sync_reference() {
    const auto sync = algorithm_.reference_sync();
    if (sync && sync->is_due(learner_.step())) policy_.sync_reference(sync->ref_model_mixup_alpha);
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
  PolicyUpdater updater_;
  Learner learner_;
};

}  // namespace

void OnlineAlgorithm::train(TrainingRun& run) { RolloutUpdateLoop(run, *this).train(); }

}  // namespace meed
