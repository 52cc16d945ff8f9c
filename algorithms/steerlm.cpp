#include "libpolicy/losses/steerlm.h"

#include <ATen/ATen.h>

#include "algorithms/group_selection.h"
#include "algorithms/rollout_update_loop.h"
#include "libpolicy/core/error.h"

namespace meed {
namespace {

/// SteerLM 2.0 (Wang et al. 2024, HelpSteer2): the policy Q(y | a, x) learns the distribution
/// proportional to P(a | x, y) P(y | x). The prompt holds x and the attributes a, the reward is log
/// P(a | x, y), the prior P(y | x) is the reference on the prompt without attributes. Every
/// generation is sampled from the policy of its time.
class SteerLm final : public OnlineAlgorithm {
 public:
  struct Config {
    std::string prior_prompt_column = "prior_prompt";
    int64_t num_iterations = 1;
    void fields(FieldVisitor& v) {
      v.field("prior_prompt_column", prior_prompt_column,
              "Column with the prompt x alone, which the prior reads; empty: the prompt itself.");
      v.field("num_iterations", num_iterations, "Passes over each generation.");
      v.require(num_iterations > 0, "num_iterations", "must be positive");
    }
  };
  explicit SteerLm(const Config& config) : config_(config) {}

  int64_t num_iterations() const override { return config_.num_iterations; }
  bool needs_reference() const override { return true; }
  bool keeps_groups_whole() const override { return true; }
  at::Tensor participants(const ScoredRollouts& rollouts) const override {
    return rollouts.rewards_PG.isfinite();
  }
  std::optional<Content> reference_prompt(const Example& example) const override {
    if (config_.prior_prompt_column.empty()) return std::nullopt;
    const auto found = example.extra.find(config_.prior_prompt_column);
    if (found == example.extra.end() || found->second.empty())
      throw DataError("row " + std::to_string(example.row + 1) + ": column \"" +
                      config_.prior_prompt_column +
                      "\" (algorithm.prior_prompt_column) is missing or empty");
    Content prompt = example.prompt;
    if (prompt.conversational)
      prompt.messages = {{"user", found->second, ""}};
    else
      prompt.text = found->second;
    return prompt;
  }

  at::Tensor advantages(const ScoredRollouts& rollouts, Communicator&) override {
    return rollouts.rewards_PG.to(at::kFloat);
  }

  LossOutput loss(const PolicyBatch& batch, const UpdateTotals& totals, int64_t) override {
    const auto logprobs_C = completion_sums(batch, batch.logprobs_M);
    const auto old_C = completion_sums(batch, batch.old_logprobs_M);
    const auto prior_C = completion_sums(batch, batch.ref_logprobs_M);
    const double mean_tokens = totals.num_tokens / std::max(1.0, totals.num_completions);
    LossOutput output{.loss = at::zeros({}), .metrics = {}};
    const int64_t groups = batch.group_C.max().item<int64_t>() + 1;
    for (int64_t group = 0; group < groups; ++group) {
      const auto here_C = batch.group_C == group;
      const auto part = steerlm_loss({.log_likelihoods_n = batch.advantages_C.masked_select(here_C),
                                      .prior_logprobs_n = prior_C.masked_select(here_C),
                                      .old_logprobs_n = old_C.masked_select(here_C),
                                      .logprobs_n = logprobs_C.masked_select(here_C)},
                                     totals.num_groups, mean_tokens);
      output.loss = output.loss + part.loss;
      merge(output.metrics, part.metrics);
    }
    return output;
  }

 private:
  Config config_;
};

MEED_REGISTER(algorithms, "steerlm", SteerLm,
              "SteerLM 2.0: the policy learns to give responses with the attributes asked for.");

}  // namespace
}  // namespace meed
