#include "libreward/losses/bradley_terry.h"

#include <ATen/ATen.h>

namespace meed {

LossOutput bradley_terry_loss(const at::Tensor& chosen_B, const at::Tensor& rejected_B,
                              const at::Tensor& margins_B, double center_rewards_coefficient,
                              double num_pairs) {
  const auto chosen = chosen_B.to(at::kFloat), rejected = rejected_B.to(at::kFloat);
  auto difference_B = chosen - rejected;
  if (margins_B.defined()) difference_B = difference_B - margins_B.to(at::kFloat);
  auto losses_B = -at::log_sigmoid(difference_B);
  if (center_rewards_coefficient > 0.0)
    losses_B = losses_B + center_rewards_coefficient * (chosen + rejected).square();
  LossOutput output{.loss = losses_B.sum() / num_pairs, .metrics = {}};
  const auto count = static_cast<double>(chosen.numel());
  const auto both = at::cat({chosen, rejected}).detach();
  output.metrics["accuracy"] = {(chosen > rejected).sum().item<double>(), count};
  output.metrics["margin"] = {(chosen - rejected).detach().sum().item<double>(), count};
  output.metrics["mean_reward"] = {both.sum().item<double>(), 2.0 * count};
  output.metrics["min_reward"] = {both.min().item<double>(), 1.0, Reduce::kMin};
  output.metrics["max_reward"] = {both.max().item<double>(), 1.0, Reduce::kMax};
  return output;
}

}  // namespace meed
