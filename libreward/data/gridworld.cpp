#include "libreward/data/gridworld.h"

#include <ATen/ATen.h>

#include <array>

#include "libpolicy/core/error.h"
#include "libreward/data/generated_rows.h"

namespace meed {
namespace {

/// Reward of a step on each kind of tile: road, grass, mud, gold.
constexpr std::array<double, Gridworld::kKinds> kRewards = {0.1, 0.0, -0.5, 1.0};

}  // namespace

void Gridworld::Config::fields(FieldVisitor& v) {
  v.field("size", size, "Tiles on a side.");
  v.field("horizon", horizon, "States in a trajectory.");
  v.field("world_seed", world_seed, "Decides the tiles.");
  v.field("slip", slip, "Probability that a move goes in a random direction.");
  v.require(size >= 2 && size <= 30, "size", "must be 2 to 30");
  v.require(horizon >= 2, "horizon", "must be at least 2");
  v.require(world_seed >= 0, "world_seed", "must not be negative");
  v.require(slip >= 0 && slip < 1, "slip", "must be in [0, 1)");
}

Gridworld::Gridworld(const Config& config) {
  const int64_t n = config.size, S = n * n, A = 4;
  auto transitions = at::zeros({S, A, S}, at::kDouble);
  auto features = at::zeros({S, kKinds}, at::kDouble);
  auto t = transitions.accessor<double, 3>();
  auto f = features.accessor<double, 2>();
  const int64_t moves[4][2] = {{-1, 0}, {1, 0}, {0, -1}, {0, 1}};
  const auto target = [&](int64_t s, int64_t a) {
    const int64_t row = s / n + moves[a][0], column = s % n + moves[a][1];
    return row < 0 || row >= n || column < 0 || column >= n ? s : row * n + column;
  };
  RandomStream random(mix_seed({static_cast<uint64_t>(config.world_seed), 0x9121d}));
  rewards_S_ = at::zeros({S}, at::kDouble);
  for (int64_t s = 0; s < S; ++s) {
    // The far corner is gold whatever the seed, so that there is somewhere to go.
    const int64_t kind = s + 1 == S ? kKinds - 1 : random.next_int(0, kKinds - 2);
    f[s][kind] = 1.0;
    rewards_S_[s] = kRewards[static_cast<size_t>(kind)];
    for (int64_t a = 0; a < A; ++a) {
      t[s][a][target(s, a)] += 1.0 - config.slip;
      for (int64_t other = 0; other < A; ++other)
        t[s][a][target(s, other)] += config.slip / static_cast<double>(A);
    }
  }
  auto start = at::zeros({S}, at::kDouble);
  start[0] = 1.0;
  problem_ = {.transitions_SAS = transitions,
              .features_SF = features,
              .start_S = start,
              .expert_features_F = {},
              .horizon = config.horizon};
}

std::vector<int64_t> Gridworld::sample(const at::Tensor& policy_TSA, uint64_t seed) const {
  RandomStream random(seed);
  const auto policy = policy_TSA.accessor<double, 3>();
  const auto transitions = problem_.transitions_SAS.accessor<double, 3>();
  const auto draw = [&](const auto& probabilities, int64_t count) {
    double left = random.next();
    for (int64_t i = 0; i + 1 < count; ++i)
      if ((left -= probabilities[i]) < 0.0) return i;
    return count - 1;
  };
  std::vector<int64_t> states{0};
  for (int64_t step = 0; step + 1 < problem_.horizon; ++step) {
    const int64_t s = states.back(), a = draw(policy[step][s], policy_TSA.size(2));
    states.push_back(draw(transitions[s][a], policy_TSA.size(1)));
  }
  return states;
}

std::vector<double> Gridworld::features(const std::vector<int64_t>& states) const {
  std::vector<double> sums(kKinds, 0.0);
  const auto features = problem_.features_SF.accessor<double, 2>();
  for (const int64_t s : states) {
    MEED_CHECK(s >= 0 && s < problem_.features_SF.size(0), "a state of the world");
    for (int64_t k = 0; k < kKinds; ++k) sums[static_cast<size_t>(k)] += features[s][k];
  }
  return sums;
}

double Gridworld::true_return(const std::vector<int64_t>& states) const {
  const auto rewards = rewards_S_.accessor<double, 1>();
  double sum = 0.0;
  for (const int64_t s : states) sum += rewards[s];
  return sum;
}

namespace {

/// Trajectories of an expert in a gridworld, alone or beside those of worse policies (IRL meets LLM
/// post-training). The expert is soft-optimal for the true reward.
class GridworldDemonstrations final : public GeneratedRows {
 public:
  struct Config {
    GeneratedKeys keys;
    Gridworld::Config world;
    double expert_temperature = 0.3, sft_temperature = 1.0;
    std::string negatives = "init";
    void fields(FieldVisitor& v) {
      keys.fields(v);
      v.section("world", world, "The world.");
      v.field("expert_temperature", expert_temperature, "Of the expert; 0 would be optimal.");
      v.field("sft_temperature", sft_temperature, "Of a policy between the expert and chance.");
      v.choice("negatives", negatives, {"init", "sft", "mixed"},
               "Rejected trajectories: of chance, of the policy in between, or by turns.");
      v.require(expert_temperature > 0 && sft_temperature > 0, "expert_temperature",
                "and sft_temperature must be positive");
    }
  };
  explicit GridworldDemonstrations(const Config& config) {
    const Gridworld world(config.world);
    const auto& problem = world.problem();
    const auto expert =
        soft_optimal_policy(problem, world.rewards_S(), config.expert_temperature).policy_TSA;
    const auto sft =
        soft_optimal_policy(problem, world.rewards_S(), config.sft_temperature).policy_TSA;
    const auto chance = soft_optimal_policy(problem, at::zeros_like(world.rewards_S())).policy_TSA;
    for (int64_t i = 0; i < config.keys.num_rows; ++i) {
      const auto draw = [&](const at::Tensor& policy, uint64_t which) {
        const uint64_t split = config.keys.split == "train"  ? 1
                               : config.keys.split == "eval" ? 2
                                                             : 3;
        return world.sample(policy, mix_seed({static_cast<uint64_t>(config.keys.seed), split,
                                              static_cast<uint64_t>(i), which}));
      };
      const bool from_sft =
          config.negatives == "sft" || (config.negatives == "mixed" && i % 2 == 1);
      const auto demo = draw(expert, 0), other = draw(from_sft ? sft : chance, 1);
      auto row = pair(world.features(demo), world.features(other), world.true_return(demo),
                      world.true_return(other));
      row.extra["states"] = as_column(std::vector<double>(demo.begin(), demo.end()));
      // A trajectory to be judged, of any of the three.
      const auto any = draw(i % 3 == 0 ? expert : i % 3 == 1 ? sft : chance, 2);
      row.extra["features"] = vector_column(as_floats(world.features(any)));
      row.extra["gold"] = as_column(world.true_return(any));
      rows_.push_back(std::move(row));
    }
  }
};

MEED_REGISTER(datasets, "gridworld_demonstrations", GridworldDemonstrations,
              "Generated trajectories of an expert in a small world.");

}  // namespace
}  // namespace meed
