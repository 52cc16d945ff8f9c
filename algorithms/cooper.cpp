#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>

#include "algorithms/grpo.h"
#include "algorithms/training_run.h"
#include "algorithms/verifier_trainer.h"
#include "libpolicy/core/error.h"
#include "libpolicy/core/run_context.h"
#include "libpolicy/data/dataset.h"

namespace meed {
namespace {

/// Cooper (Hong et al. 2025): policy and reward model learn together. Stage 1 is an update of the
/// policy as GRPO's, on a verifier's reward. Stage 2 is an update of the verifier on one pair a
/// prompt: a completion that the rule marks right, and one with a wrong answer. It takes GRPO's
/// whole behaviour over, so it inherits from it.
class Cooper final : public Grpo {
 public:
  struct Config {
    Grpo::Config policy;
    VerifierTrainer::Config verifier;
    std::optional<ConfigNode> verify_data;
    int64_t verify_rows = 200, verify_steps = 20;
    void fields(FieldVisitor& v) {
      policy.fields(v);
      verifier.fields(v);
      v.component(
          "verify_data", verify_data, datasets(),
          "Pairs of right and wrong completions (chosen, rejected, with the columns that the "
          "verifier reads) on which its accuracy is measured; null: not.");
      v.field("verify_rows", verify_rows, "Rows of verify_data that are used.");
      v.field("verify_steps", verify_steps, "Measure after every so many generations.");
      v.require(verify_rows > 0 && verify_steps > 0, "verify_rows",
                "and verify_steps must be positive");
    }
  };
  Cooper(const Config& config, RunContext& context)
      : Grpo(config.policy, context), config_(config), seed_(context.seed) {
    if (config.verify_data) verify_data_ = datasets().create(*config.verify_data, context);
  }

  void prepare(TrainingRun&, RewardPipeline& rewards, TrainableModel& model) override {
    trainer_ = std::make_unique<VerifierTrainer>(config_.verifier, rewards, seed_);
    trainer_->add_to(model);
  }

  void after_update(const ScoredRollouts& rollouts, Communicator& comm,
                    MetricsWriter& metrics) override {
    const bool due = verify_data_ && generations_ % config_.verify_steps == 0;
    if (due)
      metrics.record("verifier/heldout_accuracy",
                     trainer_->accuracy(*verify_data_, config_.verify_rows, comm), Reduce::kMax);
    trainer_->update(rollouts, comm, metrics);
    ++generations_;
  }
  void save(StateDict& state) const override {
    Grpo::save(state);
    state.integers["generations"] = generations_;
    save_under(state, "verifier", *trainer_);
  }
  void load(const StateDict& state) override {
    Grpo::load(state);
    generations_ = state.integers.at("generations");
    load_under(state, "verifier", *trainer_);
  }

 private:
  Config config_;
  uint64_t seed_;
  std::unique_ptr<Dataset> verify_data_;
  std::unique_ptr<VerifierTrainer> trainer_;
  int64_t generations_ = 0;
};

MEED_REGISTER(algorithms, "cooper", Cooper,
              "GRPO on a verifier's reward while the verifier learns from the rollouts.");

}  // namespace
}  // namespace meed
