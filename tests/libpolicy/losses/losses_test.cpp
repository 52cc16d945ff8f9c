#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "libpolicy/distributed/communicator.h"
#include "libpolicy/losses/advantages.h"
#include "libpolicy/losses/dpo.h"
#include "libpolicy/losses/policy_gradient.h"
#include "libreward/losses/bradley_terry.h"

namespace meed {
namespace {

using Json = nlohmann::json;

const Json& golden() {
  static const Json json = Json::parse(std::ifstream(MEED_SOURCE_DIR "/tests/golden/losses.json"));
  return json;
}

at::Tensor floats(const Json& json) { return at::tensor(json.get<std::vector<float>>()); }

void expect_close(const at::Tensor& a, const at::Tensor& b, double tolerance = 1e-6) {
  ASSERT_EQ(a.numel(), b.numel());
  EXPECT_LE((a.flatten() - b.flatten()).abs().max().item<double>(), tolerance);
}

struct Grpo {
  Grpo() {
    const auto& json = golden()["grpo"];
    std::vector<int64_t> completion;
    const auto lengths = json["lengths"].get<std::vector<int64_t>>();
    for (size_t c = 0; c < lengths.size(); ++c)
      completion.insert(completion.end(), static_cast<size_t>(lengths[c]), static_cast<int64_t>(c));
    in.logprobs_M = floats(json["new"]).requires_grad_();
    in.old_logprobs_M = floats(json["old"]);
    in.ref_logprobs_M = floats(json["ref"]);
    in.completion_M = at::tensor(completion, at::kLong);
    in.mask_M = at::ones_like(in.old_logprobs_M);
    in.advantages_C = floats(json["advantages"]);
    totals = {.num_tokens = static_cast<double>(completion.size()),
              .num_completions = static_cast<double>(lengths.size()),
              .max_completion_length = 16};
  }
  PolicyGradientInputs in;
  PolicyGradientTotals totals;
};

TEST(PolicyGradient, EveryVariantEqualsTheReference) {
  for (const auto& each : golden()["grpo"]["cases"]) {
    Grpo grpo;
    PolicyGradientOptions options{
        .loss_type = each["loss_type"],
        .beta = each["beta"],
        .epsilon = 0.2,
        .epsilon_high = 0.28,
        .delta = each["delta"].is_null() ? std::nullopt : std::optional<double>(each["delta"]),
        .importance_sampling_level = each["level"]};
    const auto output = policy_gradient_loss(grpo.in, options, grpo.totals);
    EXPECT_NEAR(output.loss.item<double>(), each["loss"].get<double>(), 1e-6) << each.dump();
    output.loss.backward();
    expect_close(grpo.in.logprobs_M.grad(), floats(each["grad"]));
  }
}

TEST(PolicyGradient, MicroBatchesAddUpToTheWhole) {
  for (const std::string loss_type : {"grpo", "bnpo", "dr_grpo", "dapo"}) {
    Grpo grpo;
    const PolicyGradientOptions options{.loss_type = loss_type, .beta = 0.1};
    const double whole = policy_gradient_loss(grpo.in, options, grpo.totals).loss.item<double>();
    double sum = 0.0;
    for (int64_t c = 0; c < grpo.in.advantages_C.numel(); ++c) {
      const auto part_M = at::nonzero(grpo.in.completion_M == c).flatten();
      const auto take = [&](const at::Tensor& values) {
        return values.detach().index_select(0, part_M);
      };
      const PolicyGradientInputs part{take(grpo.in.logprobs_M),
                                      take(grpo.in.old_logprobs_M),
                                      take(grpo.in.ref_logprobs_M),
                                      take(grpo.in.mask_M),
                                      at::zeros({part_M.numel()}, at::kLong),
                                      grpo.in.advantages_C.narrow(0, c, 1)};
      sum += policy_gradient_loss(part, options, grpo.totals).loss.item<double>();
    }
    EXPECT_NEAR(sum, whole, 1e-6) << loss_type;
  }
}

TEST(PolicyGradient, MaskedTokensLeaveNoTraceEvenIfTheyAreNaN) {
  for (const std::string level : {"token", "sequence"}) {
    Grpo grpo;
    grpo.in.mask_M[0] = 0.0;
    auto poisoned = grpo.in.logprobs_M.detach().clone();
    poisoned[0] = std::nan("");
    grpo.in.logprobs_M = poisoned.requires_grad_();
    const auto output = policy_gradient_loss(
        grpo.in, {.loss_type = "dapo", .beta = 0.1, .importance_sampling_level = level},
        grpo.totals);
    EXPECT_TRUE(std::isfinite(output.loss.item<double>()));
    output.loss.backward();
    EXPECT_TRUE(grpo.in.logprobs_M.grad().isfinite().all().item<bool>());
    EXPECT_EQ(grpo.in.logprobs_M.grad()[0].item<float>(), 0.0f);
    for (const auto& [key, value] : output.metrics) EXPECT_TRUE(std::isfinite(value.sum)) << key;
  }
}

TEST(Advantages, EqualTheReference) {
  const auto comm = Communicator::create({}, at::kCPU, "single");
  const auto& json = golden()["advantages"];
  const auto rewards =
      at::tensor(json["rewards"].get<std::vector<double>>(), at::kDouble).view({3, 4});
  for (const std::string scale : {"group", "batch", "none"})
    expect_close(group_advantages(rewards, scale, *comm), floats(json[scale]));
}

TEST(Advantages, CompletionsWithoutRewardGetNone) {
  const auto comm = Communicator::create({}, at::kCPU, "single");
  const auto rewards = at::tensor({1.0, std::nan(""), 0.0, 1.0}, at::kDouble).view({1, 4});
  const auto advantages = group_advantages(rewards, "group", *comm);
  EXPECT_EQ(advantages[0][1].item<float>(), 0.0f);
  EXPECT_NEAR(advantages.sum().item<float>(), 0.0f, 1e-6);
  EXPECT_TRUE(advantages.isfinite().all().item<bool>());
  EXPECT_EQ(group_advantages(at::empty({0, 4}, at::kDouble), "batch", *comm).numel(), 0);
}

TEST(Dpo, EveryLossEqualsTheReference) {
  for (const auto& each : golden()["dpo"]) {
    auto chosen = at::tensor({-12.5f, -30.0f, -7.25f}).requires_grad_(),
         rejected = at::tensor({-14.0f, -28.5f, -9.0f}).requires_grad_();
    const DpoInputs in{chosen,
                       rejected,
                       at::tensor({-13.0f, -29.0f, -7.5f}),
                       at::tensor({-13.5f, -29.5f, -8.0f}),
                       at::tensor({10.0f, 22.0f, 5.0f}),
                       at::tensor({12.0f, 20.0f, 6.0f})};
    const auto output = dpo_loss(
        in, {.loss_type = {each["loss_type"].get<std::string>()}, .beta = 0.3, .label_smoothing = each["smoothing"]},
        {.num_pairs = 3});
    EXPECT_NEAR(output.loss.item<double>(), each["loss"].get<double>(), 1e-6) << each.dump();
    output.loss.backward();
    expect_close(chosen.grad(), floats(each["grad_chosen"]));
    expect_close(rejected.grad(), floats(each["grad_rejected"]));
    EXPECT_DOUBLE_EQ(output.metrics.at("rewards/accuracies").sum, 2.0);
  }
}

TEST(BradleyTerry, EqualsTheReference) {
  const auto& json = golden()["bradley_terry"];
  auto chosen = at::tensor({0.4f, -0.2f, 1.5f}).requires_grad_(),
       rejected = at::tensor({0.1f, 0.3f, -0.5f}).requires_grad_();
  const auto output = bradley_terry_loss(chosen, rejected, at::tensor({0.0f, 0.5f, 1.0f}), 0.01, 3);
  EXPECT_NEAR(output.loss.item<double>(), json["loss"].get<double>(), 1e-6);
  output.loss.backward();
  expect_close(chosen.grad(), floats(json["grad_chosen"]));
  expect_close(rejected.grad(), floats(json["grad_rejected"]));
  EXPECT_DOUBLE_EQ(output.metrics.at("accuracy").sum, 2.0);
}

}  // namespace
}  // namespace meed
