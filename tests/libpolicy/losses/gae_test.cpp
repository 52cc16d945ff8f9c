#include "libpolicy/losses/gae.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

#include "libpolicy/distributed/communicator.h"
#include "libpolicy/losses/advantages.h"

namespace meed {
namespace {

const auto kComm = Communicator::create({}, at::kCPU, "single");

std::vector<double> numbers(const at::Tensor& tensor) {
  const auto doubles = tensor.to(at::kDouble).contiguous();
  return {doubles.data_ptr<double>(), doubles.data_ptr<double>() + doubles.numel()};
}

TEST(Gae, HasTheWorkedValues) {
  const auto rewards = at::tensor({0.0, 0.0, 1.0}, at::kDouble);
  EXPECT_EQ(numbers(compute_gae(rewards, at::zeros({3}, at::kDouble), 1, 1).advantages_T),
            (std::vector<double>{1, 1, 1}));
  const auto values = at::tensor({0.5, 0.25, 2.0}, at::kDouble);
  const auto one_step = compute_gae(rewards, values, 0.9, 0);
  EXPECT_NEAR(one_step.advantages_T[0].item<double>(), 0.9 * 0.25 - 0.5, 1e-12);
  EXPECT_NEAR(one_step.advantages_T[1].item<double>(), 0.9 * 2.0 - 0.25, 1e-12);
  EXPECT_NEAR(one_step.advantages_T[2].item<double>(), 1.0 - 2.0, 1e-12);
  EXPECT_NEAR(one_step.returns_T[2].item<double>(), 1.0, 1e-12);
}

TEST(Gae, PassesOverToolOutput) {
  const auto whole = compute_gae(at::tensor({1.0, 2.0}, at::kDouble),
                                 at::tensor({0.5, 0.1}, at::kDouble), 0.9, 0.8);
  const auto with_tool = compute_gae(
      at::tensor({0.0, 1.0, 2.0}, at::kDouble), at::tensor({0.5, 7.0, 0.1}, at::kDouble), 0.9, 0.8,
      at::tensor({1.0, 0.0, 1.0}, at::kDouble));
  EXPECT_EQ(with_tool.advantages_T[0].item<double>(), whole.advantages_T[0].item<double>());
  EXPECT_EQ(with_tool.advantages_T[1].item<double>(), 0.0);
  EXPECT_EQ(with_tool.returns_T[2].item<double>(), whole.returns_T[1].item<double>());
}

TEST(Whitened, TheThreeSigmaFilterHasTheWorkedValues) {
  auto values = at::ones({256}, at::kDouble);
  values[0] = 0.0;
  const auto plain = whitened(values, at::ones({256}), *kComm);
  EXPECT_NEAR(plain[0].item<double>(), -15.968719, 1e-6);
  const auto kept = whitened(values, at::ones({256}), *kComm, /*max_abs=*/3.0);
  EXPECT_EQ(kept[0].item<double>(), 0.0);
  EXPECT_NEAR(kept[1].item<double>(), 0.062622, 1e-6);
  values[1] = std::nan("");
  EXPECT_EQ(whitened(values, at::ones({256}), *kComm)[1].item<double>(), 0.0);
}

TEST(Whitened, EqualValuesSayNothing) {
  // A mean of 0.1s is not 0.1 to the last bit; the rounding must not be blown up to +-1.
  for (const int64_t count : {3, 6, 7, 9, 100})
    for (const double value : {0.1, 0.7, -1e6 / 3}) {
      const auto result =
          whitened(at::full({count}, value, at::kDouble), at::ones({count}), *kComm);
      EXPECT_EQ(result.abs().max().item<double>(), 0.0) << count << " times " << value;
    }
}

TEST(CompletionAdvantages, GpgDoesNotCountGroupsOfEqualRewards) {
  const auto rewards =
      at::tensor({0.1, 0.1, 0.1, 1.0, 0.0, 0.0}, at::kDouble).view({2, 3});
  const auto got =
      numbers(completion_advantages("gpg", rewards, at::ones({2, 3}), "group", *kComm));
  EXPECT_NEAR(got[3], 2.0 * 2.0 / 3.0, 1e-6);  // one group of two differs
}

TEST(ValueLoss, TakesTheWorseOfPlainAndClipped) {
  const auto values = at::tensor({1.0f, 0.0f}).requires_grad_();
  const auto output = value_loss(values, at::tensor({0.0f, 0.0f}), at::tensor({1.0f, 1.0f}),
                                 at::ones({2}), 0.2, 2);
  EXPECT_NEAR(output.loss.item<double>(), 0.5 * (0.64 + 1.0) / 2, 1e-6);
  output.loss.backward();
  EXPECT_EQ(values.grad()[0].item<float>(), 0.0f);  // the clipped one is worse: no gradient
  EXPECT_NEAR(values.grad()[1].item<double>(), -0.5, 1e-6);
}

TEST(CompletionAdvantages, HaveTheirFormulas) {
  const auto rewards = at::tensor({1.0, 0.0, 0.0, 1.0, 2.0, 2.0, 2.0, 2.0}, at::kDouble).view({2, 4});
  const auto lengths = at::tensor({1.0, 1.0, 1.0, 5.0, 1.0, 1.0, 1.0, 1.0}, at::kDouble).view({2, 4});
  const auto get = [&](const char* estimator, const char* scale = "group") {
    return numbers(completion_advantages(estimator, rewards, lengths, scale, *kComm));
  };
  const auto near = [](const std::vector<double>& got, const std::vector<double>& wanted) {
    for (size_t i = 0; i < wanted.size(); ++i) EXPECT_NEAR(got[i], wanted[i], 1e-6) << i;
  };
  near(get("rloo"), {2.0 / 3, -2.0 / 3, -2.0 / 3, 2.0 / 3, 0, 0, 0, 0});
  near(get("opo"), {1 - 0.75, -0.75, -0.75, 1 - 0.75, 0, 0, 0, 0});
  near(get("gpg"), {1, -1, -1, 1, 0, 0, 0, 0});
  near(get("pass_at_k", "none"), {0, 0, 0, 0, 0, 0, 0, 0});
  const double std = std::sqrt(1.0 / 7);
  near(get("reinforce_plus_plus_baseline"),
       {0.5 / (std + 1e-4), -0.5 / (std + 1e-4), -0.5 / (std + 1e-4), 0.5 / (std + 1e-4), 0});
  const auto one = at::tensor({1.0, 0.25, 0.0, std::nan("")}, at::kDouble).view({1, 4});
  near(numbers(completion_advantages("pass_at_k", one, lengths, "none", *kComm)), {0.75, 0, 0, 0});
}

TEST(CompletionAdvantages, AGroupOfEightHasTheWorkedValues) {
  const auto rewards = at::tensor({1., 0., 0., 1., 1., 0., 0., 0.}, at::kDouble).view({1, 8});
  const auto got = numbers(group_advantages(rewards, "group", *kComm));
  EXPECT_NEAR(got[0], 1.207615, 3e-4);  // 1e-4 is added to the std
  EXPECT_NEAR(got[1], -0.724569, 3e-4);
}

}  // namespace
}  // namespace meed
