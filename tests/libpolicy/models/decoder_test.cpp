#include <ATen/CPUGeneratorImpl.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include "libpolicy/core/error.h"
#include "tests/libpolicy/models/tiny_models.h"

namespace meed {
namespace {

using testing::family_batch;
using testing::loss_of;
using testing::predicted;
using testing::some_ids;
using testing::tiny_config;

const std::vector<std::string> kFamilies{"llama", "mistral", "qwen2", "qwen3", "gpt2"};

std::unique_ptr<CausalLm> tiny_model(const std::string& family,
                                     const LoadOptions& options = {.trainable = true}) {
  auto model = CausalLm::create(tiny_config(family), 1, options);
  testing::randomise(*model, 0.15, 3);
  return model;
}

at::Tensor logprobs_of(CausalLm& model, const PackedBatch& batch) {
  return token_logprobs(model, batch, predicted(batch)).logprobs_M;
}

std::vector<at::Tensor> gradients(CausalLm& model) {
  std::vector<at::Tensor> found;
  for (const auto& [name, leaf] : model.parameters().items()) {
    EXPECT_TRUE(leaf.grad().defined()) << name;
    found.push_back(leaf.grad().clone());
    leaf.mutable_grad() = at::Tensor();
  }
  return found;
}

void expect_close(const std::vector<at::Tensor>& a, const std::vector<at::Tensor>& b,
                  double tolerance) {
  ASSERT_EQ(a.size(), b.size());
  for (size_t i = 0; i < a.size(); ++i)
    EXPECT_LE((a[i] - b[i]).abs().max().item<double>(),
              tolerance * (1 + a[i].abs().max().item<double>()))
        << i;
}

TEST(Decoder, RandomWeightsHaveTheDeviationAskedFor) {
  for (const double range : {0.02, 0.1}) {
    const auto model = CausalLm::create(tiny_config("llama"), 1, {}, range);
    const auto& weight = model->parameters().at("model.layers.0.mlp.gate_proj.weight");
    EXPECT_NEAR(weight.std().item<double>(), range, 0.1 * range);
    EXPECT_EQ(model->parameters().at("model.norm.weight").min().item<float>(), 1.0f);
  }
}

TEST(Decoder, PackedRowsEqualRowsOneByOne) {
  for (const auto& family : kFamilies) {
    const auto model = tiny_model(family);
    at::NoGradGuard no_grad;
    PackedBatchBuilder together;
    std::vector<at::Tensor> alone;
    for (int64_t length : {3, 11, 6}) {
      together.add(some_ids(length, length));
      PackedBatchBuilder single;
      single.add(some_ids(length, length));
      alone.push_back(logprobs_of(*model, single.build()));
    }
    EXPECT_LE((logprobs_of(*model, together.build()) - at::cat(alone)).abs().max().item<double>(),
              1e-5)
        << family;
  }
}

TEST(Decoder, SharedPrefixEqualsRepeatedPrefixWithItsGradients) {
  for (const auto& family : kFamilies) {
    const auto model = tiny_model(family);
    const auto prompt = some_ids(9, 1), a = some_ids(6, 2), b = some_ids(4, 3);
    PackedBatchBuilder shared;
    const auto prefix = shared.add(prompt);
    shared.add(a, prefix);
    shared.add(b, prefix);
    const auto shared_batch = shared.build();
    const auto shared_logprobs = token_logprobs(*model, shared_batch, at::arange(9, 19)).logprobs_M;
    (shared_logprobs * at::arange(1, 11, at::kFloat)).sum().backward();
    const auto shared_gradients = gradients(*model);

    PackedBatchBuilder repeated;
    for (const auto& completion : {a, b}) {
      auto whole = prompt;
      whole.insert(whole.end(), completion.begin(), completion.end());
      repeated.add(whole);
    }
    const auto selected = at::cat({at::arange(9, 15), at::arange(24, 28)});
    const auto logprobs = token_logprobs(*model, repeated.build(), selected).logprobs_M;
    (logprobs * at::arange(1, 11, at::kFloat)).sum().backward();
    EXPECT_LE((logprobs - shared_logprobs).abs().max().item<double>(), 1e-5) << family;
    expect_close(gradients(*model), shared_gradients, 2e-5);
  }
}

TEST(Decoder, GradientsAgreeWithCentralDifferences) {
  for (const auto& family : kFamilies) {
    const auto model = tiny_model(family);
    const auto batch = family_batch();
    loss_of(*model, batch).backward();
    at::NoGradGuard no_grad;
    auto generator = at::detail::createCPUGenerator(5);
    for (const auto& [name, leaf] : model->parameters().items()) {
      const auto direction = at::empty(leaf.sizes(), at::kFloat).normal_(0.0, 1.0, generator);
      const double expected = (leaf.grad() * direction).sum().item<double>();
      const double step = 2e-3;
      const auto value = leaf.clone();
      leaf.detach().copy_(value + direction * step);
      const double above = loss_of(*model, batch).item<double>();
      leaf.detach().copy_(value - direction * step);
      const double below = loss_of(*model, batch).item<double>();
      leaf.detach().copy_(value);
      // float32 losses of about 20: differences carry an error of about 1e-3 over the step, and
      // the third derivative adds its part.
      const double scale = std::sqrt((leaf.grad() * leaf.grad()).sum().item<double>());
      EXPECT_NEAR((above - below) / (2 * step), expected, 0.02 * scale + 0.02)
          << family << " " << name;
    }
  }
}

TEST(Decoder, CheckpointingChangesNothing) {
  for (const auto& family : kFamilies) {
    const auto model = tiny_model(family);
    const auto batch = family_batch();
    loss_of(*model, batch).backward();
    const auto kept = gradients(*model);
    model->set_activation_checkpointing(true);
    loss_of(*model, batch).backward();
    expect_close(gradients(*model), kept, 1e-6);
  }
}

TEST(Decoder, GradientsAccumulateOverBackwards) {
  const auto model = tiny_model("llama");
  const auto batch = family_batch();
  loss_of(*model, batch).backward();
  auto once = gradients(*model);
  loss_of(*model, batch).backward();
  loss_of(*model, batch).backward();
  for (auto& gradient : once) gradient.mul_(2);
  expect_close(gradients(*model), once, 1e-5);
}

TEST(Decoder, AccumulatesIntoGradientsThatTheCallerPlaced) {
  const auto model = tiny_model("qwen2");
  const auto batch = family_batch();
  loss_of(*model, batch).backward();
  const auto expected = gradients(*model);
  for (const auto& [name, leaf] : model->parameters().items())
    if (!name.ends_with("k_proj.weight")) leaf.mutable_grad() = at::zeros(leaf.sizes());
  loss_of(*model, batch).backward();
  expect_close(gradients(*model), expected, 1e-6);
}

TEST(Decoder, Bfloat16IsCloseAndItsGradientsAreFloat32) {
  for (const auto& family : kFamilies) {
    const auto exact = tiny_model(family);
    const auto rough = tiny_model(family, {.dtype = at::kBFloat16, .trainable = true});
    const auto batch = family_batch();
    const auto difference = logprobs_of(*exact, batch) - logprobs_of(*rough, batch);
    EXPECT_LE(difference.abs().max().item<double>(), 0.15) << family;
    loss_of(*exact, batch).backward();
    loss_of(*rough, batch).backward();
    const auto a = gradients(*exact), b = gradients(*rough);
    for (size_t i = 0; i < a.size(); ++i) {
      EXPECT_EQ(b[i].scalar_type(), at::kFloat);
      EXPECT_GE(at::cosine_similarity(a[i].flatten(), b[i].flatten(), 0).item<double>(), 0.99)
          << family << i;
    }
  }
}

TEST(Decoder, SyncCarriesMastersIntoBfloat16Copies) {
  const auto model = tiny_model("llama", {.dtype = at::kBFloat16, .trainable = true});
  {
    at::NoGradGuard no_grad;
    model->parameters().at("model.layers.1.self_attn.v_proj.weight").detach().fill_(0.5);
  }
  EXPECT_NE(model->weights().layers[1].v.weight.mean().item<double>(), 0.5);
  model->sync_compute_weights();
  EXPECT_EQ(model->weights().layers[1].v.weight.mean().item<double>(), 0.5);
}

TEST(Decoder, RefusesIdsOutsideTheVocabulary) {
  const auto model = tiny_model("gpt2");
  PackedBatchBuilder builder;
  builder.add(std::vector<int64_t>{1, 97});
  EXPECT_THROW(model->hidden_states(builder.build()), DataError);
  PackedBatchBuilder longer;
  longer.add(some_ids(65, 1));
  EXPECT_THROW(model->hidden_states(longer.build()), DataError);
}

TEST(PackedBatch, PrefixesGivePositionsAndPredecessors) {
  PackedBatchBuilder builder;
  const auto prefix = builder.add(std::vector<int64_t>{5, 6});
  builder.add(std::vector<int64_t>{7, 8}, prefix);
  const auto child = builder.add(std::vector<int64_t>{9}, prefix);
  const auto batch = builder.build();
  EXPECT_TRUE(at::equal(batch.positions_N, at::tensor({0, 1, 2, 3, 2}, at::kLong)));
  EXPECT_TRUE(at::equal(batch.predecessors_N, at::tensor({-1, 0, 1, 2, 1}, at::kLong)));
  EXPECT_THROW(builder.add(std::vector<int64_t>{1}, child), InternalError);
  EXPECT_THROW(builder.add(std::vector<int64_t>{}), InternalError);
}

}  // namespace
}  // namespace meed
