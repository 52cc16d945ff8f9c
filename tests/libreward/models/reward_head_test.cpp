#include "libreward/models/reward_head.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include "libpolicy/core/metrics.h"
#include "libpolicy/distributed/communicator.h"

namespace meed {
namespace {

std::unique_ptr<RewardHead> make(const std::string& yaml, int64_t D) {
  const auto comm = Communicator::create({}, at::kCPU, "single");
  NullMetrics metrics;
  RunContext context{.comm = *comm, .metrics = metrics};
  auto head = reward_heads().create(ConfigNode::parse_string(yaml), context);
  head->init(D, /*seed=*/1);
  return head;
}

TEST(RewardHeads, AnMlpOfOnesHasTheWorkedValue) {
  const auto head = make("{type: mlp, layers: 2, activation: silu}", 1);
  at::NoGradGuard no_grad;
  for (const auto& [name, tensor] : head->parameters().items())
    tensor.fill_(name.ends_with("bias") ? 0.0 : 1.0);
  const auto one = at::ones({1, 1}, at::kDouble);
  EXPECT_NEAR(head->forward({one, one}).rewards_B.item<double>(), 0.731059, 1e-6);
}

TEST(RewardHeads, AllGiveARewardAndAPreferenceThatSwaps) {
  at::manual_seed(2);
  const auto features = at::randn({5, 6}), others = at::randn({5, 6}), context = at::randn({5, 6});
  for (const std::string type :
       {"{type: linear}", "{type: mlp, layers: 3, activation: tanh}", "{type: attributes}",
        "{type: mixture, heads: 4}", "{type: preference_embedding, size: 6, prompt_scaled: true}",
        "{type: preference_embedding, normalize: true}",
        "{type: aspects, aspects: {a: \"x, y\", b: z}, gate_hidden: 8}"}) {
    const auto head = make(type, 6);
    const auto a = head->forward({features, context}), b = head->forward({others, context});
    EXPECT_EQ(a.rewards_B.sizes(), at::IntArrayRef({5})) << type;
    const auto forth = head->preference(a, b), back = head->preference(b, a);
    EXPECT_LT((forth + back).abs().max().item<double>(), 1e-4) << type;
    EXPECT_LT(head->preference(a, a).abs().max().item<double>(), 1e-5) << type;
    // The same seed makes the same head.
    const auto again = make(type, 6)->forward({features, context});
    EXPECT_TRUE(at::equal(again.rewards_B, a.rewards_B)) << type;
  }
}

TEST(RewardHeads, AVerboseTwinLosesByItsWeight) {
  const auto head =
      make("{type: attributes, attributes: [helpfulness, verbosity], weights: [1, -0.4]}", 2);
  at::NoGradGuard no_grad;
  head->parameters().at("score.weight").copy_(at::eye(2));
  const auto rows = at::tensor({3.0, 1.0, 3.0, 4.0}, at::kDouble).view({2, 2});
  const auto rewards = head->forward({rows, rows}).rewards_B;
  EXPECT_NEAR((rewards[0] - rewards[1]).item<double>(), 1.2, 1e-6);
}

TEST(RewardHeads, AspectsWithEvenGatesAreMeansOfMeans) {
  const auto head =
      make("{type: aspects, aspects: {a: \"x, y\", b: z}, gate_hidden: 4, gate_layers: 1}", 3);
  EXPECT_EQ(head->output_names(), (std::vector<std::string>{"a/x", "a/y", "b/z"}));
  EXPECT_EQ(head->gate_names(), (std::vector<std::string>{"a", "b"}));
  at::NoGradGuard no_grad;
  for (const auto& [name, tensor] : head->parameters().items()) tensor.zero_();
  head->parameters().at("criteria.weight").copy_(at::eye(3));
  const auto row = at::tensor({1.0, 3.0, 6.0}, at::kDouble).view({1, 3});
  const auto output = head->forward({row, row});
  EXPECT_NEAR(output.rewards_B.item<double>(), 4.0, 1e-6);  // ((1 + 3) / 2 + 6) / 2
  EXPECT_NEAR(output.aspects_BJ[0][0].item<double>(), 2.0, 1e-6);
  EXPECT_NEAR(output.log_gates_BK.exp().sum().item<double>(), 1.0, 1e-6);
}

}  // namespace
}  // namespace meed
