#include "libpolicy/models/token_logprobs.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include "libpolicy/core/error.h"
#include "tests/libpolicy/models/tiny_models.h"

namespace meed {
namespace {

// More rows than a chunk holds, and a last chunk that is not full.
constexpr int64_t kM = 2500, kV = 211, kD = 12;

struct Case {
  at::Tensor hidden, head, targets, weights;
};

Case random_case(at::ScalarType dtype = at::kFloat) {
  auto generator = at::detail::createCPUGenerator(4);
  const auto normal = [&](at::IntArrayRef shape) {
    return at::empty(shape, at::kFloat).normal_(0.0, 0.7, generator);
  };
  Case made{normal({kM, kD}).to(dtype), normal({kV, kD}).to(dtype),
            at::randint(0, kV, {kM}, generator, at::kLong), normal({kM})};
  return made;
}

struct Result {
  at::Tensor logprobs, entropy, d_hidden, d_head;
};

Result direct(const Case& c, double temperature) {
  const auto hidden = c.hidden.to(at::kFloat).detach().clone().set_requires_grad(true);
  const auto head = c.head.to(at::kFloat).detach().clone().set_requires_grad(true);
  const auto all = at::log_softmax(at::linear(hidden, head) / temperature, 1);
  const auto logprobs = all.gather(1, c.targets.unsqueeze(1)).squeeze(1);
  const auto entropy = -(all.exp() * all).sum(1);
  ((logprobs * c.weights).sum() + 0.5 * (entropy * c.weights.cos()).sum()).backward();
  return {logprobs.detach(), entropy.detach(), hidden.grad(), head.grad()};
}

double difference(const at::Tensor& a, const at::Tensor& b) {
  return (a - b).abs().max().item<double>();
}

TEST(ChunkedLogprobs, EqualLogSoftmaxWithEntropyAndGradients) {
  for (const double temperature : {1.0, 0.6}) {
    const auto c = random_case();
    const auto expected = direct(c, temperature);
    const auto hidden = c.hidden.clone().set_requires_grad(true);
    const auto head = c.head.clone().set_requires_grad(true);
    const auto result =
        chunked_logprobs(hidden, head, c.targets, temperature, /*with_entropy=*/true);
    ((result.logprobs_M * c.weights).sum() + 0.5 * (result.entropy_M * c.weights.cos()).sum())
        .backward();
    EXPECT_LE(difference(result.logprobs_M.detach(), expected.logprobs), 1e-5);
    EXPECT_LE(difference(result.entropy_M.detach(), expected.entropy), 1e-5);
    EXPECT_LE(difference(hidden.grad(), expected.d_hidden), 1e-5);
    EXPECT_LE(difference(head.grad(), expected.d_head), 2e-4);  // sums of 2,500 terms
  }
}

TEST(ChunkedLogprobs, HeadThatIsNoLeafGetsItsGradientThroughTheGraph) {
  const auto c = random_case();
  const auto expected = direct(c, 1.0);
  const auto base = (c.head / 2).set_requires_grad(true);
  const auto result = chunked_logprobs(c.hidden, base * 2, c.targets, 1.0, /*with_entropy=*/true);
  ((result.logprobs_M * c.weights).sum() + 0.5 * (result.entropy_M * c.weights.cos()).sum())
      .backward();
  EXPECT_LE(difference(base.grad() / 2, expected.d_head), 2e-4);
}

TEST(ChunkedLogprobs, Bfloat16GivesTheMasterAFloat32Gradient) {
  const auto c = random_case(at::kBFloat16);
  const auto expected = direct(c, 1.0);
  const auto master = c.head.to(at::kFloat).set_requires_grad(true);
  const auto result =
      chunked_logprobs(c.hidden, c.head, c.targets, 1.0, /*with_entropy=*/true, master);
  ((result.logprobs_M * c.weights).sum() + 0.5 * (result.entropy_M * c.weights.cos()).sum())
      .backward();
  EXPECT_LE(difference(result.logprobs_M.detach(), expected.logprobs), 0.05);
  EXPECT_EQ(master.grad().scalar_type(), at::kFloat);
  EXPECT_GE(
      at::cosine_similarity(master.grad().flatten(), expected.d_head.flatten(), 0).item<double>(),
      0.999);
}

TEST(ChunkedLogprobs, CorrectMarksTheLargestLogit) {
  const auto c = random_case();
  const auto best = at::linear(c.hidden, c.head).argmax(1);
  EXPECT_EQ(chunked_logprobs(c.hidden, c.head, best).correct_M.mean().item<double>(), 1.0);
  const auto some = chunked_logprobs(c.hidden, c.head, c.targets).correct_M;
  EXPECT_TRUE(at::equal(some, best.eq(c.targets).to(at::kFloat)));
}

TEST(ChunkedLogprobs, EmptySelectionAndBadTargets) {
  const auto c = random_case();
  const auto none = chunked_logprobs(c.hidden.narrow(0, 0, 0), c.head, c.targets.narrow(0, 0, 0));
  EXPECT_EQ(none.logprobs_M.numel(), 0);
  EXPECT_THROW(chunked_logprobs(c.hidden, c.head, c.targets + kV), InternalError);
}

TEST(TokenLogprobs, FirstTokenOfASequenceHasNone) {
  const auto model = CausalLm::create(testing::tiny_config("llama"), 1);
  PackedBatchBuilder builder;
  builder.add(testing::some_ids(4, 1));
  EXPECT_THROW(token_logprobs(*model, builder.build(), at::tensor({0}, at::kLong)), InternalError);
}

}  // namespace
}  // namespace meed
