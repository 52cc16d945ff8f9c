#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "libpolicy/core/error.h"
#include "libpolicy/optim/adamw.h"
#include "libpolicy/optim/clip_grad_norm.h"
#include "libpolicy/optim/lr_schedule.h"

namespace meed {
namespace {

const nlohmann::json& golden() {
  static const auto json =
      nlohmann::json::parse(std::ifstream(MEED_SOURCE_DIR "/tests/golden/losses.json"));
  return json;
}

TEST(LrSchedule, EqualsTransformers) {
  for (const auto& [type, rates] : golden()["schedules"].items()) {
    const LrSchedule schedule(type, 2.0, 3, 10);
    for (size_t step = 0; step < rates.size(); ++step)
      EXPECT_NEAR(schedule.at(static_cast<int64_t>(step)), rates[step].get<double>(), 1e-9)
          << type << step;
  }
}

at::Tensor matrix() { return at::tensor({0.5f, -1.0f, 2.0f, 0.25f}).view({2, 2}).requires_grad_(); }
const AdamWOptions kOptions{.beta1 = 0.8, .beta2 = 0.95, .epsilon = 1e-6, .weight_decay = 0.05};

void set_gradient(at::Tensor& parameter, int k) {
  parameter.mutable_grad() = at::tensor({0.1f, -0.2f, 0.3f, 0.05f}).view({2, 2}) * (k + 1);
}

TEST(AdamW, EqualsTorch) {
  auto parameter = matrix();
  AdamW optimizer({{"w", parameter}}, kOptions);
  for (int k = 0; k < 3; ++k) {
    set_gradient(parameter, k);
    optimizer.step(0.1);
  }
  const auto expected = at::tensor(golden()["adamw"].get<std::vector<float>>());
  EXPECT_LE((parameter.detach().flatten() - expected).abs().max().item<double>(), 1e-6);
}

TEST(AdamW, GoesOnFromItsStateBitForBit) {
  auto straight = matrix(), resumed = matrix();
  AdamW a({{"w", straight}}, kOptions), b({{"w", resumed}}, kOptions);
  for (int k = 0; k < 2; ++k) {
    set_gradient(straight, k);
    set_gradient(resumed, k);
    a.step(0.1);
    b.step(0.1);
  }
  StateDict state = b.state_dict();
  for (auto& [name, tensor] : state.tensors) tensor = tensor.clone();
  AdamW c({{"w", resumed}}, kOptions);
  c.load_state_dict(state);
  set_gradient(straight, 2);
  set_gradient(resumed, 2);
  a.step(0.1);
  c.step(0.1);
  EXPECT_TRUE(at::equal(straight.detach(), resumed.detach()));
  EXPECT_THROW(c.load_state_dict({}), DataError);
}

TEST(AdamW, NormsAndBiasesDoNotDecay) {
  auto weight = at::ones({2, 2}).requires_grad_(), bias = at::ones({2}).requires_grad_();
  AdamW optimizer({{"w", weight}, {"b", bias}}, {.weight_decay = 0.5});
  weight.mutable_grad() = at::zeros({2, 2});
  bias.mutable_grad() = at::zeros({2});
  optimizer.step(0.1);
  EXPECT_NEAR(weight.detach()[0][0].item<float>(), 0.95f, 1e-6);
  EXPECT_EQ(bias.detach()[0].item<float>(), 1.0f);
}

TEST(ClipGradNorm, ScalesToTheLimitAndReportsTheNorm) {
  auto a = at::zeros({2}).requires_grad_(), b = at::zeros({1}).requires_grad_();
  a.mutable_grad() = at::tensor({3.0f, 0.0f});
  b.mutable_grad() = at::tensor({4.0f});
  const std::vector<at::Tensor> parameters = {a, b};
  EXPECT_NEAR(clip_grad_norm(parameters, 0.0), 5.0, 1e-6);
  EXPECT_NEAR(a.grad()[0].item<float>(), 3.0f, 1e-6);
  EXPECT_NEAR(clip_grad_norm(parameters, 1.0), 5.0, 1e-6);
  EXPECT_NEAR(a.grad()[0].item<float>(), 0.6f, 1e-6);
  b.mutable_grad() = at::tensor({std::nanf("")});
  EXPECT_TRUE(std::isnan(clip_grad_norm(parameters, 1.0)));
}

}  // namespace
}  // namespace meed
