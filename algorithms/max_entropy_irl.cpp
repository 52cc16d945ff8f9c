#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "algorithms/head_batch.h"
#include "algorithms/offline_trainer.h"
#include "algorithms/training_run.h"
#include "libpolicy/checkpoint/safetensors.h"
#include "libpolicy/core/error.h"
#include "libpolicy/core/files.h"
#include "libreward/data/gridworld.h"
#include "libreward/losses/demonstrations.h"

namespace meed {
namespace {

/// Learns a reward of tiles from demonstrations in a gridworld by maximum entropy (Ziebart et al.
/// 2008; IRL meets LLM post-training): the gradient of E_demo[R] - log Z is the demonstrations'
/// features less the soft-optimal policy's.
class MaxEntropyIrl final : public OfflineAlgorithm {
 public:
  struct Config {
    Gridworld::Config world;
    double policy_temperature = 0.1;
    void fields(FieldVisitor& v) {
      v.section("world", world, "The world, as the demonstrations' dataset has it.");
      v.field("policy_temperature", policy_temperature,
              "Evaluation: temperature of the policy that is trained on the learnt reward.");
      v.require(policy_temperature > 0, "policy_temperature", "must be positive");
    }
  };
  explicit MaxEntropyIrl(const Config& config) : config_(config), world_(config.world) {}

  TrainableModel prepare(TrainingRun&) override {
    weights_F_ = at::zeros({Gridworld::kKinds});
    weights_F_.set_requires_grad(true);
    const auto save = [this](const std::filesystem::path& folder) {
      write_safetensors(folder / "reward.safetensors", {{"weights", weights_F_.detach()}});
      const nlohmann::ordered_json json = {{"reward", "gridworld"},
                                           {"size", config_.world.size},
                                           {"horizon", config_.world.horizon},
                                           {"world_seed", config_.world.world_seed},
                                           {"slip", config_.world.slip}};
      write_file_atomic(folder / "meed.json", json.dump(2) + "\n");
    };
    return {.parameters = {{"weights", weights_F_}},
            .sync = [] {},
            .save = save,
            .save_exact = save,
            .load =
                [this](const std::filesystem::path& folder) {
                  const at::NoGradGuard no_grad;
                  const auto saved = SafetensorsFile(folder / "reward.safetensors").load("weights");
                  if (saved.sizes() != weights_F_.sizes())
                    throw DataError(folder.string() + ": the checkpoint is of another world");
                  weights_F_.copy_(saved);
                }};
  }

  EncodedRow encode(const Example& example) override {
    EncodedRow row;
    for (const double state : numbers_of(example, "states")) {
      const double limit = static_cast<double>(world_.rewards_S().size(0));
      if (state < 0 || state >= limit || state != std::floor(state))
        throw DataError("row " + std::to_string(example.row + 1) + ": \"states\" holds " +
                        std::to_string(state) + ", no state of a world of " +
                        std::to_string(world_.rewards_S().size(0)));
      row.labels.push_back(state);
    }
    if (static_cast<int64_t>(row.labels.size()) != config_.world.horizon)
      throw DataError("row " + std::to_string(example.row + 1) + ": \"states\" has " +
                      std::to_string(row.labels.size()) + " entries, the horizon is " +
                      std::to_string(config_.world.horizon));
    return row;
  }
  double weight(const EncodedRow&) const override { return 1.0; }

  LossOutput loss(std::span<const EncodedRow> rows, const StepTotals& totals) override {
    const auto policy = soft_optimal_policy(world_.problem(), rewards());
    std::vector<double> sums(Gridworld::kKinds, 0.0);
    for (const auto& row : rows) {
      const auto features = world_.features({row.labels.begin(), row.labels.end()});
      for (size_t k = 0; k < sums.size(); ++k) sums[k] += features[k];
    }
    const auto gap_F =
        (at::tensor(sums, at::kDouble) - static_cast<double>(rows.size()) * policy.features_F)
            .to(at::kFloat);
    return {.loss = -(weights_F_ * gap_F).sum() / totals.weight, .metrics = {}};
  }

  void evaluate(const Dataset& data, MetricsWriter& writer) override {
    std::vector<double> demo(Gridworld::kKinds, 0.0);
    double expert_return = 0.0;
    auto visited = at::zeros_like(world_.rewards_S());
    for (int64_t i = 0; i < data.size(); ++i) {
      const auto row = encode(data.get(i));
      const std::vector<int64_t> states(row.labels.begin(), row.labels.end());
      const auto features = world_.features(states);
      for (size_t k = 0; k < demo.size(); ++k)
        demo[k] += features[k] / static_cast<double>(data.size());
      for (const int64_t s : states) visited[s] += 1.0;
      expert_return += world_.true_return(states) / static_cast<double>(data.size());
    }
    const auto& problem = world_.problem();
    const auto soft = soft_optimal_policy(problem, rewards());
    writer.record("eval_feature_gap",
                  (at::tensor(demo, at::kDouble) - soft.features_F).abs().max().item<double>());
    const auto places = (visited > 0).nonzero().squeeze(1);
    const auto own = rewards().index_select(0, places);
    const auto real = world_.rewards_S().index_select(0, places);
    const auto a = own - own.mean(), b = real - real.mean();
    const double norm = (a.norm() * b.norm()).item<double>();
    writer.record("eval_reward_correlation", norm > 0.0 ? a.dot(b).item<double>() / norm : 0.0);
    const auto trained = soft_optimal_policy(problem, rewards(), config_.policy_temperature);
    const double own_return = trained.visits_S.dot(world_.rewards_S()).item<double>();
    writer.record("eval_policy_return", own_return);
    writer.record("eval_expert_return", expert_return);
    if (expert_return > 0.0) writer.record("eval_return_share", own_return / expert_return);
  }

 private:
  at::Tensor rewards() const {
    return at::mv(world_.problem().features_SF, weights_F_.detach().to(at::kDouble));
  }
  Config config_;
  Gridworld world_;
  at::Tensor weights_F_;
};

MEED_REGISTER(algorithms, "max_entropy_irl", MaxEntropyIrl,
              "A reward from demonstrations in a small world, by maximum entropy.");
[[maybe_unused]] const bool without_model = works_without_model("max_entropy_irl");

}  // namespace
}  // namespace meed
