#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <span>
#include <string>

#include "algorithms/entropy_control.h"
#include "algorithms/rollout_update_loop.h"
#include "libpolicy/losses/policy_gradient.h"

namespace meed {

struct RunContext;

/// Group relative policy optimisation (Shao et al. 2024) and its family: the losses of
/// policy_gradient_loss with the advantages of completion_advantages.
class Grpo : public OnlineAlgorithm {
 public:
  struct Config {
    PolicyGradientOptions loss;
    std::optional<double> epsilon_high;
    std::string advantage_estimator = "group";
    std::string scale_rewards = "group";
    int64_t num_iterations = 1;
    bool mask_truncated_completions = false;
    double top_entropy_quantile = 1.0;
    std::string importance_sampling_correction = "none";
    double importance_sampling_clip_min = 0.0, importance_sampling_clip_max = 3.0;
    std::optional<double> pre_clip;
    std::string std = "sample";
    std::string multi_objective_aggregation = "sum_then_normalize";
    std::string process_supervision = "none";
    ReferenceSync reference;
    EntropyControl entropy;
    void fields(FieldVisitor& v);
  };

  Grpo(const Config& config, RunContext& context);

  int64_t num_iterations() const override { return config_.num_iterations; }
  bool needs_reference() const override { return config_.loss.beta > 0.0; }
  bool needs_old_logprobs() const override {
    return config_.importance_sampling_correction != "none";
  }
  double top_entropy_quantile() const override { return config_.top_entropy_quantile; }
  bool mask_truncated_completions() const override { return config_.mask_truncated_completions; }
  std::optional<ReferenceSync> reference_sync() const override { return config_.reference; }
  bool needs_greedy() const override { return config_.advantage_estimator == "remax"; }
  bool needs_current_logprobs() const override {
    return config_.loss.loss_type == "clip_cov" || config_.loss.loss_type == "kl_cov";
  }
  bool by_token() const override { return config_.process_supervision != "none"; }
  /// With process supervision, a completion's is that of its first token.
  at::Tensor advantages(const ScoredRollouts& rollouts, Communicator& comm) override;
  /// Process supervision: a token's advantage is the sum of the normalised rewards of the steps
  /// that end at or after it, beside the completion's own where outcomes count.
  void token_advantages(const ScoredRollouts& rollouts, std::span<CompletionTokens> completions,
                        Communicator& comm, MetricsWriter& metrics) override;
  /// clip_cov and kl_cov choose among all tokens of the update.
  void begin_update(const ScoredRollouts& rollouts, std::span<CompletionTokens> completions,
                    Communicator& comm) override;
  /// By a KL, an entropy bonus or kl_cov's penalty.
  bool learns_without_advantage() const override;
  LossOutput loss(const PolicyBatch& batch, const UpdateTotals& totals,
                  int64_t max_completion_length) override;
  void end_update(Communicator& comm, MetricsWriter& metrics) override;
  void save(StateDict& state) const override;
  void load(const StateDict& state) override;

 private:
  Config config_;
  EntropyCoefficient entropy_;
  uint64_t seed_;
  int64_t updates_ = 0;       ///< of the run, for clip_cov's draws
  bool warned_ = false;       ///< that dense rewards are not read
  at::Tensor advantages_PG_;  ///< of the outcomes
  std::vector<std::vector<std::vector<double>>> advantages_PGS_;  ///< of the steps
};

}  // namespace meed
