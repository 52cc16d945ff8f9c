#include "libreward/losses/demonstrations.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <vector>

#include "libpolicy/core/error.h"

namespace meed {

LossOutput adversarial_loss(const at::Tensor& demo_rewards_B, const at::Tensor& sample_rewards_N,
                            double num_demos, double num_samples) {
  LossOutput output{.loss = -at::log_sigmoid(demo_rewards_B).sum() / num_demos -
                            at::log_sigmoid(-sample_rewards_N).sum() / num_samples,
                    .metrics = {}};
  output.metrics["accuracy"] = {
      (demo_rewards_B > 0).sum().item<double>() + (sample_rewards_N < 0).sum().item<double>(),
      static_cast<double>(demo_rewards_B.numel() + sample_rewards_N.numel())};
  return output;
}

SoftPolicy soft_optimal_policy(const MaxEntropyProblem& problem, const at::Tensor& rewards_S,
                               double temperature) {
  const at::NoGradGuard no_grad;
  MEED_CHECK(temperature > 0.0, "temperature must be positive");
  const auto transitions = problem.transitions_SAS.to(at::kDouble);
  const auto features = problem.features_SF.to(at::kDouble);
  MEED_CHECK(transitions.dim() == 3 && transitions.size(0) == transitions.size(2) &&
                 features.size(0) == transitions.size(0) && problem.horizon > 0,
             "soft_optimal_policy: shapes disagree");
  const auto scaled_S = rewards_S.detach().to(at::kDouble) / temperature;
  // Backward: soft values; forward: how often each state is visited.
  std::vector<at::Tensor> policies(static_cast<size_t>(problem.horizon));
  auto values_S = scaled_S.clone();
  for (int64_t t = problem.horizon - 2; t >= 0; --t) {
    const auto q_SA = scaled_S.unsqueeze(1) + at::matmul(transitions, values_S);
    policies[static_cast<size_t>(t)] = q_SA.softmax(/*dim=*/1);
    values_S = q_SA.logsumexp({1}, /*keepdim=*/false);
  }
  policies.back() = at::full({transitions.size(0), transitions.size(1)},
                             1.0 / static_cast<double>(transitions.size(1)), at::kDouble);
  auto now_S = problem.start_S.to(at::kDouble);
  SoftPolicy result{.policy_TSA = at::stack(policies), .visits_S = now_S};
  for (int64_t t = 0; t + 1 < problem.horizon; ++t) {
    const auto joint_SA = now_S.unsqueeze(1) * policies[static_cast<size_t>(t)];
    now_S = at::einsum("sa,sat->t", {joint_SA, transitions});
    result.visits_S = result.visits_S + now_S;
  }
  result.features_F = at::mv(features.t(), result.visits_S);
  return result;
}

MaxEntropyResult max_entropy_irl(const MaxEntropyProblem& problem, double learning_rate,
                                 int64_t num_steps) {
  const at::NoGradGuard no_grad;
  const auto features = problem.features_SF.to(at::kDouble);
  const auto expert_F = problem.expert_features_F.to(at::kDouble);
  auto weights_F = at::zeros({features.size(1)}, at::kDouble);
  auto policy = soft_optimal_policy(problem, at::mv(features, weights_F));
  for (int64_t step = 0; step < num_steps; ++step) {
    const auto gradient_F = expert_F - policy.features_F;
    const auto next_F = weights_F + learning_rate * gradient_F;
    auto next = soft_optimal_policy(problem, at::mv(features, next_F));
    // The objective is concave: a step that is not too long does not make the gradient longer.
    if ((expert_F - next.features_F).norm().item<double>() > gradient_F.norm().item<double>()) {
      learning_rate /= 2.0;
      continue;
    }
    weights_F = next_F;
    policy = std::move(next);
  }
  return {.weights_F = weights_F,
          .policy_TSA = policy.policy_TSA,
          .policy_features_F = policy.features_F,
          .gap = (expert_F - policy.features_F).abs().max().item<double>()};
}

}  // namespace meed
