// The operations for other devices against the CPU's kernels, on the CPU.
#include "libpolicy/models/device_ops.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include "tests/libpolicy/models/tiny_models.h"

namespace meed {
namespace {

using testing::some_ids;

class DeviceOps : public ::testing::Test {
 protected:
  at::Tensor normal(at::IntArrayRef shape, at::ScalarType dtype = at::kFloat) {
    return at::empty(shape, at::kFloat).normal_(0.0, 1.0, generator_).to(dtype);
  }
  at::Generator generator_ = at::detail::createCPUGenerator(2);
};

void expect_close(const at::Tensor& a, const at::Tensor& b, double tolerance) {
  ASSERT_EQ(a.sizes(), b.sizes());
  ASSERT_EQ(a.scalar_type(), b.scalar_type());
  const auto difference = (a.to(at::kDouble) - b.to(at::kDouble)).abs().max().item<double>();
  EXPECT_LE(difference, tolerance * (1.0 + b.to(at::kDouble).abs().max().item<double>()));
}

double tolerance_of(at::ScalarType dtype) { return dtype == at::kFloat ? 2e-6 : 1e-2; }

TEST_F(DeviceOps, NormsEqualTheKernels) {
  for (const auto dtype : {at::kFloat, at::kBFloat16})
    for (const bool center : {false, true}) {
      const NormSettings settings{1e-5, center};
      const auto x = normal({5, 24});
      const auto weight = normal({24}).set_requires_grad(true);
      const auto bias = center ? normal({24}).set_requires_grad(true) : at::Tensor();
      at::Tensor hat[2], rstd[2], dx[2], d_weight[2], d_bias[2];
      const auto y = norm_forward(x, weight, bias, settings, dtype, &hat[0], &rstd[0]);
      expect_close(device::norm_forward(x, weight.detach(), bias.defined() ? bias.detach() : bias,
                                        settings, dtype, &hat[1], &rstd[1]),
                   y, tolerance_of(dtype));
      expect_close(hat[1], hat[0], tolerance_of(dtype));
      expect_close(rstd[1], rstd[0], 2e-6);
      const at::NoGradGuard no_grad;
      expect_close(device::norm_output(hat[0], weight, bias), norm_output(hat[0], weight, bias),
                   tolerance_of(dtype));
      const auto dy = normal({5, 24}, dtype), start = normal({5, 24});
      for (const int i : {0, 1}) {
        dx[i] = start.clone();
        (i == 0 ? norm_backward : device::norm_backward)(dy, hat[0], rstd[0], weight, bias,
                                                         settings, dx[i]);
        d_weight[i] = weight.grad().clone();
        weight.mutable_grad() = at::Tensor();
        if (!bias.defined()) continue;
        d_bias[i] = bias.grad().clone();
        bias.mutable_grad() = at::Tensor();
      }
      expect_close(dx[1], dx[0], 1e-5);
      expect_close(d_weight[1], d_weight[0], 1e-5);
      if (center) expect_close(d_bias[1], d_bias[0], 1e-5);
    }
}

TEST_F(DeviceOps, RotationsAndActivationsEqualTheKernels) {
  for (const auto dtype : {at::kFloat, at::kBFloat16}) {
    const auto x = normal({5, 40}, dtype), angles = normal({5, 4});
    for (const float sign : {1.0f, -1.0f}) {
      const auto a = x.clone(), b = x.clone();
      rotate(a, 3, 8, angles.cos(), angles.sin(), sign);
      device::rotate(b, 3, 8, angles.cos(), angles.sin(), sign);
      expect_close(b, a, tolerance_of(dtype));
    }
    for (const auto kind :
         {kernels::Activation::kSilu, kernels::Activation::kGelu, kernels::Activation::kGeluTanh})
      for (const bool gated : {true, false}) {
        expect_close(device::activate(x, gated, kind), activate(x, gated, kind),
                     tolerance_of(dtype));
        const auto dy = normal({5, gated ? 20 : 40}, dtype);
        const auto in_a = x.clone(), in_b = x.clone(), dy_a = dy.clone(), dy_b = dy.clone();
        activate_backward(in_a, dy_a, gated, kind);
        device::activate_backward(in_b, dy_b, gated, kind);
        expect_close(in_b, in_a, tolerance_of(dtype));
        expect_close(dy_b, dy_a, tolerance_of(dtype));
      }
  }
}

// Families with prefixes, lengths that fall into several groups, windows, grouped heads.
TEST_F(DeviceOps, AttentionEqualsTheKernels) {
  PackedBatchBuilder builder;
  testing::add_family(builder);
  builder.add(some_ids(30, 6));
  const auto second = builder.add(some_ids(3, 7));
  builder.add(some_ids(25, 8), second);
  const auto batch = builder.build();
  for (const int64_t window : {0, 5})
    for (const int64_t kv_heads : {1, 2, 4})
      for (const auto dtype : {at::kFloat, at::kBFloat16}) {
        const AttentionShape shape{
            .num_heads = 4, .num_kv_heads = kv_heads, .head_dim = 8, .sliding_window = window};
        const int64_t N = batch.num_tokens(), columns = (4 + 2 * kv_heads) * 8;
        const auto qkv = normal({N, columns}, dtype), d_out = normal({N, 32}, dtype);
        const auto lse = at::empty({N, 4}, at::kFloat);
        const auto out = attention_forward(qkv, batch, shape, lse);
        expect_close(device::attention_forward(qkv, batch, shape), out, tolerance_of(dtype));
        expect_close(device::attention_backward(qkv, d_out, batch, shape),
                     attention_backward(qkv, out, lse, d_out, batch, shape),
                     3 * tolerance_of(dtype));
      }
}

TEST_F(DeviceOps, AttentionOfEncodersSeesTheWholeSegment) {
  PackedBatchBuilder builder;
  for (const int64_t length : {7, 6, 20}) builder.add(some_ids(length, length));
  const auto batch = builder.build();
  const AttentionShape shape{.num_heads = 2, .num_kv_heads = 2, .head_dim = 8, .causal = false};
  const auto qkv = normal({batch.num_tokens(), 48});
  expect_close(device::attention_forward(qkv, batch, shape),
               attention_forward(qkv, batch, shape, {}), 2e-6);
}

TEST_F(DeviceOps, LogitsGiveWhatAutogradGives) {
  const auto logits = normal({6, 31}).set_requires_grad(true);
  const auto targets = at::randint(0, 31, {6}, generator_, at::kLong);
  const auto d_logprobs = normal({6}), d_entropy = normal({6});
  const float scale = 1.4f;
  const auto all = at::log_softmax(logits * scale, 1);
  const auto logprobs = all.gather(1, targets.unsqueeze(1)).squeeze(1);
  const auto entropy = -(all.exp() * all).sum(1);
  ((logprobs * d_logprobs).sum() + (entropy * d_entropy).sum()).backward();
  const at::NoGradGuard no_grad;
  const auto statistics = device::logit_statistics(logits, targets, scale, /*with_entropy=*/true);
  expect_close(statistics.logprobs, logprobs, 2e-6);
  expect_close(statistics.entropy, entropy, 2e-6);
  expect_close(statistics.correct, logits.argmax(1).eq(targets).to(at::kFloat), 0.0);
  const auto gradient = logits.detach().clone();
  device::logit_gradient(gradient, targets, scale, statistics.lse, statistics.entropy, d_logprobs,
                         d_entropy);
  expect_close(gradient, logits.grad(), 5e-6);
  const auto of_entropy = logits.detach().clone();
  device::logit_gradient(of_entropy, targets, scale, statistics.lse, statistics.entropy, {},
                         d_entropy);
  const auto of_logprobs = logits.detach().clone();
  device::logit_gradient(of_logprobs, targets, scale, statistics.lse, {}, d_logprobs, {});
  expect_close(of_entropy + of_logprobs, logits.grad(), 5e-6);
}

}  // namespace
}  // namespace meed
