#include "libreward/functions/ensemble.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "libpolicy/core/error.h"
#include "libreward/models/text_scorer.h"
#include "libreward/reward_function.h"

namespace meed {

at::Tensor aggregate_members(const at::Tensor& rewards_MN, const std::string& how, double c,
                             const std::vector<double>& weights) {
  const auto values = rewards_MN.to(at::kDouble);
  MEED_CHECK(values.dim() == 2 && values.size(0) > 0, "rewards of at least one member");
  if (how == "mean") return values.mean(/*dim=*/0);
  if (how == "min") return values.amin(/*dim=*/0);
  if (how == "mean_minus_std")
    return values.mean(/*dim=*/0) - c * values.std(/*dim=*/0, /*unbiased=*/false);
  if (how == "median") {
    const auto sorted = std::get<0>(values.sort(/*dim=*/0));
    const int64_t M = values.size(0);
    return 0.5 * (sorted[(M - 1) / 2] + sorted[M / 2]);
  }
  MEED_CHECK(how == "weighted", "unknown aggregate " + how);
  MEED_CHECK(static_cast<int64_t>(weights.size()) == values.size(0), "a weight for each member");
  const auto shares = at::tensor(weights, at::kDouble);
  return (shares.unsqueeze(1) * values).sum(/*dim=*/0) / shares.sum();
}

at::Tensor centred_by_prompt(const at::Tensor& rewards_MPG) {
  return rewards_MPG - rewards_MPG.mean(/*dim=*/2, /*keepdim=*/true);
}

double fused_reward(double own_reward, std::span<const double> similarities,
                    std::span<const double> rewards, double least_similarity,
                    size_t max_neighbours) {
  MEED_CHECK(similarities.size() == rewards.size(), "a reward for each neighbour");
  std::vector<size_t> order(similarities.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return similarities[a] > similarities[b]; });
  double sum = own_reward, weight = 1.0;
  for (size_t i = 0; i < std::min(max_neighbours, order.size()); ++i) {
    const double similarity = similarities[order[i]];
    if (!(similarity >= least_similarity)) break;
    sum += similarity * rewards[order[i]];
    weight += similarity;
  }
  return sum / weight;
}

namespace {

/// Several reward functions as one. A completion that a member could not score (NaN) is not scored.
class Ensemble final : public RewardFunction {
 public:
  struct Config {
    std::vector<ConfigNode> members;
    std::string folder;
    std::string aggregate = "mean";
    double std_coef = 0.5;
    std::vector<double> member_weights;
    bool center_per_prompt = false;
    void fields(FieldVisitor& v) {
      inner_rewards(v, "members", members, "The rewards that are put together.");
      v.field("folder", folder,
              "In place of members: what reward_ensemble wrote; its members are the rewards.");
      v.choice("aggregate", aggregate, {"mean", "median", "min", "mean_minus_std", "weighted"},
               "How.");
      v.field("std_coef", std_coef, "mean_minus_std: how many deviations are taken off.");
      v.field("member_weights", member_weights, "weighted: a weight for each member.");
      v.field("center_per_prompt", center_per_prompt,
              "First take each member's mean over a prompt's completions off its rewards.");
      v.require(members.empty() != folder.empty(), "members",
                "or folder must be given, and not both");
      v.require(
          aggregate != "weighted" || members.empty() || member_weights.size() == members.size(),
          "member_weights", "must be as many as members");
      v.require(std_coef >= 0, "std_coef", "must not be negative");
    }
  };
  Ensemble(const Config& config, RunContext& context) : config_(config) {
    for (const auto& member : config.members)
      members_.push_back(reward_functions().create(member, context));
    if (config.folder.empty()) return;
    for (const auto& name : ensemble_members(config.folder)) {
      const auto path = (std::filesystem::path(config.folder) / name).string();
      const auto node = ConfigNode::parse_string("{type: reward_model}", "ensemble.folder")
                            .with_default("path", path);
      try {
        members_.push_back(reward_functions().create(node, context));
      } catch (const DataError& e) {
        throw DataError(config.folder + ": member \"" + name + "\" cannot be read: " + e.what());
      }
    }
    if (members_.empty())
      throw DataError(config.folder + ": no ensemble: its meed.json names no members");
    if (config.aggregate == "weighted" && config.member_weights.size() != members_.size())
      throw ConfigError("ensemble.member_weights: must be as many as the folder has members");
  }

  std::vector<std::vector<Score>> score(std::span<const RolloutGroup> groups) override {
    // Groups may differ in size: N runs over all completions.
    int64_t N = 0;
    for (const auto& group : groups) N += static_cast<int64_t>(group.completions.size());
    const auto M = static_cast<int64_t>(members_.size());
    auto rewards_MN = at::zeros({M, N}, at::kDouble);
    std::vector<std::string> unreadable(static_cast<size_t>(N));  // what the first member says
    for (int64_t m = 0; m < M; ++m) {
      auto* row = rewards_MN.data_ptr<double>() + m * N;
      size_t n = 0;
      for (const auto& scores : members_[static_cast<size_t>(m)]->score(groups))
        for (const auto& score : scores) {
          *row++ = score.value;
          if (unreadable[n].empty()) unreadable[n] = score.unreadable;
          ++n;
        }
    }
    if (config_.center_per_prompt) {
      int64_t first = 0;
      for (const auto& group : groups) {
        const auto G = static_cast<int64_t>(group.completions.size());
        auto of_group = rewards_MN.narrow(/*dim=*/1, first, G);
        of_group.copy_(centred_by_prompt(of_group.unsqueeze(1)).squeeze(1));
        first += G;
      }
    }
    const auto values_N =
        aggregate_members(rewards_MN, config_.aggregate, config_.std_coef, config_.member_weights)
            .contiguous();
    const auto spread_N = rewards_MN.std(/*dim=*/0, /*unbiased=*/false).contiguous();
    std::vector<std::vector<Score>> scores;
    for (int64_t n = 0; const auto& group : groups) {
      auto& row = scores.emplace_back();
      for (size_t g = 0; g < group.completions.size(); ++g, ++n)
        row.push_back({.value = values_N.data_ptr<double>()[n],
                       .parts = {{"disagreement", spread_N.data_ptr<double>()[n]}},
                       .unreadable = unreadable[static_cast<size_t>(n)]});
    }
    return scores;
  }
  void save(StateDict& state) const override {
    for (size_t m = 0; m < members_.size(); ++m) save_under(state, std::to_string(m), *members_[m]);
  }
  void load(const StateDict& state) override {
    for (size_t m = 0; m < members_.size(); ++m) load_under(state, std::to_string(m), *members_[m]);
  }

 private:
  Config config_;
  std::vector<std::unique_ptr<RewardFunction>> members_;
};

MEED_REGISTER(reward_functions, "ensemble", Ensemble,
              "Several rewards as one: mean, median, min, mean - c std, weighted.");

}  // namespace
}  // namespace meed
