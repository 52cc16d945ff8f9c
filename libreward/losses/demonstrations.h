#pragma once

#include <cstdint>

#include "libpolicy/losses/loss_output.h"

namespace meed {

/// Adversarial reward from demonstrations: -log sigmoid(r(demo)) - log sigmoid(-r(sample)), each by
/// its own mean over `num_demos` and `num_samples` of the whole step (GAIL's discriminator; at its
/// optimum r = log p_expert - log p_policy). Metric: accuracy.
LossOutput adversarial_loss(const at::Tensor& demo_rewards_B, const at::Tensor& sample_rewards_N,
                            double num_demos, double num_samples);

/// Maximum-entropy inverse reinforcement learning (Ziebart et al. 2008) in a finite world of S
/// states, A actions and horizon T: climbs E_demo[R] - log Z, whose gradient is the demonstrations'
/// feature expectations less the soft-optimal policy's. float64.
struct MaxEntropyProblem {
  at::Tensor transitions_SAS;    ///< P(s' | s, a), rows sum to 1
  at::Tensor features_SF;        ///< of each state
  at::Tensor start_S;            ///< distribution of first states
  at::Tensor expert_features_F;  ///< mean sum of features over a demonstration
  int64_t horizon = 1;           ///< states in a trajectory
};
/// The policy that is soft-optimal for rewards of the states, and what it meets.
struct SoftPolicy {
  at::Tensor policy_TSA;  ///< P(a | s) at each step
  at::Tensor visits_S;    ///< expected visits of each state in a trajectory
  at::Tensor features_F;  ///< expected sum of features
};
/// `temperature` divides rewards: towards 0 the policy is the optimal one.
SoftPolicy soft_optimal_policy(const MaxEntropyProblem& problem, const at::Tensor& rewards_S,
                               double temperature = 1.0);

struct MaxEntropyResult {
  at::Tensor weights_F;          ///< reward of a state = features . weights
  at::Tensor policy_TSA;         ///< soft-optimal at each step
  at::Tensor policy_features_F;  ///< its feature expectations
  double gap = 0.0;              ///< largest difference from the expert's
};
/// Gradient ascent from weights of 0; the rate is halved whenever a step goes too far.
MaxEntropyResult max_entropy_irl(const MaxEntropyProblem& problem, double learning_rate,
                                 int64_t num_steps);

}  // namespace meed
