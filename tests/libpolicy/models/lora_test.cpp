#include "libpolicy/models/lora.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include "libpolicy/core/error.h"
#include "tests/libpolicy/models/tiny_models.h"

namespace meed {
namespace {

using testing::predicted;
using testing::some_ids;

PackedBatch batch_of(int64_t length) {
  PackedBatchBuilder builder;
  builder.add(some_ids(length, 1));
  builder.add(some_ids(length / 2, 2));
  return builder.build();
}

std::unique_ptr<CausalLm> tiny_model(const std::string& family, bool trainable = true) {
  auto model = CausalLm::create(testing::tiny_config(family), 1, {.trainable = trainable});
  testing::randomise(*model, 0.15, 3);
  return model;
}

at::Tensor logprobs_of(CausalLm& model) {
  const auto batch = batch_of(12);
  return token_logprobs(model, batch, predicted(batch)).logprobs_M;
}

void fill_factors(CausalLm& model) {
  at::NoGradGuard no_grad;
  auto generator = at::detail::createCPUGenerator(9);
  for (const auto& [name, leaf] : lora_parameters(model))
    leaf.detach().normal_(0.0, 0.2, generator);
  model.sync_compute_weights();
}

double distance(const at::Tensor& a, const at::Tensor& b) {
  return (a - b).abs().max().item<double>();
}

TEST(Lora, FreshAdaptersAndDisabledOnesLeaveTheBaseModel) {
  for (const std::string family : {"llama", "gpt2", "qwen3"}) {
    const auto model = tiny_model(family, /*trainable=*/false);
    const auto base = logprobs_of(*model);
    add_lora(*model, {.rank = 3, .alpha = 6});
    EXPECT_EQ(distance(logprobs_of(*model).detach(), base), 0.0) << family;
    fill_factors(*model);
    EXPECT_GT(distance(logprobs_of(*model).detach(), base), 1e-2) << family;
    const AdaptersDisabled disabled(*model);
    EXPECT_EQ(distance(logprobs_of(*model).detach(), base), 0.0) << family;
  }
}

TEST(Lora, OnlyFactorsTrainAndTheirGradientsAgreeWithDifferences) {
  for (const std::string family : {"llama", "gpt2"}) {
    const auto model = tiny_model(family);
    add_lora(*model,
             {.rank = 2,
              .alpha = 4,
              .target_modules = family == "gpt2"
                                    ? std::vector<std::string>{"c_attn", "c_fc"}
                                    : std::vector<std::string>{"q_proj", "v_proj", "down_proj"}});
    fill_factors(*model);
    logprobs_of(*model).sum().backward();
    at::NoGradGuard no_grad;
    auto generator = at::detail::createCPUGenerator(5);
    int64_t checked = 0;
    for (const auto& [name, leaf] : model->parameters().items()) {
      if (name.find("lora") == std::string::npos) {
        EXPECT_FALSE(leaf.grad().defined()) << name;
        continue;
      }
      ++checked;
      const auto direction = at::empty(leaf.sizes(), at::kFloat).normal_(0.0, 1.0, generator);
      const double step = 2e-3;
      const auto value = leaf.clone();
      leaf.detach().copy_(value + direction * step);
      const double above = logprobs_of(*model).sum().item<double>();
      leaf.detach().copy_(value - direction * step);
      const double below = logprobs_of(*model).sum().item<double>();
      leaf.detach().copy_(value);
      const double scale = leaf.grad().norm().item<double>();
      EXPECT_NEAR((above - below) / (2 * step), (leaf.grad() * direction).sum().item<double>(),
                  0.02 * scale + 0.03)
          << name;
    }
    EXPECT_EQ(checked, family == "gpt2" ? 8 : 12);
  }
}

TEST(Lora, MergedWeightsGiveTheSameModel) {
  for (const std::string family : {"llama", "gpt2"}) {
    const auto model = tiny_model(family);
    add_lora(*model, {.rank = 3, .alpha = 6, .use_rslora = true});
    fill_factors(*model);
    const auto adapted = logprobs_of(*model).detach();
    merge_lora(*model);
    EXPECT_FALSE(has_lora(*model));
    EXPECT_TRUE(lora_parameters(*model).empty());
    EXPECT_LE(distance(logprobs_of(*model), adapted), 1e-5) << family;
  }
}

TEST(Lora, EngineViewHoldsTheFactorsOfEachPart) {
  const auto model = tiny_model("gpt2");
  add_lora(*model, {.rank = 2, .target_modules = {"c_attn"}});
  fill_factors(*model);
  const auto& layer = model->weights().layers[0];
  const auto& factor = model->parameters().at("transformer.h.0.attn.c_attn.lora_B.weight");
  EXPECT_TRUE(at::equal(layer.k.lora_b, factor.narrow(0, 24, 24)));
  EXPECT_FALSE(layer.o.lora_b.defined());
}

TEST(Lora, NamesTheTargetThatMatchesNothing) {
  const auto model = tiny_model("llama");
  try {
    add_lora(*model, {.target_modules = {"q_proj", "query"}});
    FAIL();
  } catch (const ConfigError& e) {
    EXPECT_NE(std::string(e.what()).find("\"query\" matches no linear map"), std::string::npos)
        << e.what();
    EXPECT_NE(std::string(e.what()).find("gate_proj"), std::string::npos);
  }
  EXPECT_THROW(add_lora(*model, {.rank = 0}), ConfigError);
}

}  // namespace
}  // namespace meed
