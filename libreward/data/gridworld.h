#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "libpolicy/core/config.h"
#include "libpolicy/core/random.h"
#include "libreward/losses/demonstrations.h"

namespace meed {

/// A square world of tiles for rewards from demonstrations: four moves, which sometimes slip; every
/// tile is of one of four kinds, and the reward of being there depends on the kind alone. Start:
/// the first corner.
class Gridworld {
 public:
  struct Config {
    int64_t size = 5, horizon = 16, world_seed = 0;
    double slip = 0.1;
    void fields(FieldVisitor& v);
  };
  static constexpr int64_t kKinds = 4;
  explicit Gridworld(const Config& config);

  /// Transitions, features (one-hot kinds), start and horizon; expert_features_F is left undefined.
  const MaxEntropyProblem& problem() const { return problem_; }
  /// The true reward of each state, float64 [S].
  const at::Tensor& rewards_S() const { return rewards_S_; }
  /// States of a trajectory of the policy [T, S, A].
  std::vector<int64_t> sample(const at::Tensor& policy_TSA, uint64_t seed) const;
  /// Sum of features over a trajectory, [kKinds].
  std::vector<double> features(const std::vector<int64_t>& states) const;
  double true_return(const std::vector<int64_t>& states) const;

 private:
  MaxEntropyProblem problem_;
  at::Tensor rewards_S_;
};

}  // namespace meed
