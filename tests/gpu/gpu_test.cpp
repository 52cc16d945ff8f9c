// What runs on a GPU, against the same on the CPU. Needs the preset `cuda` and a GPU; skipped
// elsewhere.
#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "libpolicy/core/cuda_library.h"
#include "libpolicy/core/error.h"
#include "libpolicy/distributed/communicator.h"
#include "libpolicy/generation/decode_model.h"
#include "libpolicy/models/lora.h"
#include "libpolicy/models/save_model.h"
#include "libpolicy/optim/adamw.h"
#include "libpolicy/optim/clip_grad_norm.h"
#include "libreward/models/sequence_classifier.h"
#include "tests/algorithms/program.h"
#include "tests/free_port.h"
#include "tests/libpolicy/models/tiny_models.h"

namespace meed {
namespace {

using testing::family_batch;
using testing::loss_of;
using testing::tiny_config;

int gpus() {
  try {
    return num_gpus("tests");
  } catch (const ConfigError&) {
    return 0;
  }
}

class Gpu : public ::testing::Test {
 protected:
  void SetUp() override {
    if (gpus() == 0) GTEST_SKIP() << "no GPU, or not built by the preset cuda";
  }
  const at::Device gpu_{at::kCUDA, 0};
};

double relative(const at::Tensor& a, const at::Tensor& b) {
  const auto x = a.detach().cpu().to(at::kDouble), y = b.detach().cpu().to(at::kDouble);
  return ((x - y).norm() / (y.norm() + 1e-12)).item<double>();
}

std::unique_ptr<CausalLm> tiny_model(const std::string& family, at::Device device,
                                     at::ScalarType dtype = at::kFloat,
                                     bool checkpointing = false) {
  auto model = CausalLm::create(tiny_config(family), 1,
                                {.dtype = dtype,
                                 .trainable = true,
                                 .activation_checkpointing = checkpointing,
                                 .device = device});
  testing::randomise(*model, 0.15, 3);
  return model;
}

TEST_F(Gpu, DecodersGiveTheCpusLossAndGradients) {
  const auto batch = family_batch();
  for (const std::string family : {"llama", "mistral", "qwen2", "qwen3", "gpt2"})
    for (const auto dtype : {at::kFloat, at::kBFloat16})
      for (const bool checkpointing : {false, true}) {
        const double tolerance = dtype == at::kFloat ? 1e-5 : 4e-2;
        const auto there = tiny_model(family, gpu_, dtype, checkpointing);
        const auto here = tiny_model(family, at::kCPU, dtype);
        auto loss = loss_of(*there, batch), expected = loss_of(*here, batch);
        EXPECT_NEAR(loss.item<double>(), expected.item<double>(),
                    tolerance * (1 + std::abs(expected.item<double>())))
            << family;
        for (int i = 0; i < 2; ++i) {  // gradients add up
          loss.backward();
          expected.backward();
          loss = loss_of(*there, batch);
          expected = loss_of(*here, batch);
        }
        const auto& leaves = there->parameters().items();
        for (size_t i = 0; i < leaves.size(); ++i)
          EXPECT_LE(relative(leaves[i].second.grad(), here->parameters().items()[i].second.grad()),
                    tolerance)
              << family << " " << leaves[i].first << " " << dtype;
      }
}

TEST_F(Gpu, GradientsAreTheSameBitsEachTime) {
  const auto batch = family_batch();
  const auto model = tiny_model("llama", gpu_);
  std::vector<at::Tensor> first;
  for (int round = 0; round < 3; ++round) {
    loss_of(*model, batch).backward();
    size_t i = 0;
    for (const auto& [name, leaf] : model->parameters().items()) {
      const auto gradient = leaf.grad().cpu().clone();
      leaf.mutable_grad() = at::Tensor();
      if (round == 0)
        first.push_back(gradient);
      else
        EXPECT_TRUE(gradient.equal(first[i++])) << name;
    }
  }
}

TEST_F(Gpu, UpdatesFollowTheCpus) {
  const auto batch = family_batch();
  const auto there = tiny_model("qwen3", gpu_), here = tiny_model("qwen3", at::kCPU);
  std::vector<std::unique_ptr<AdamW>> optimizers;
  for (auto* model : {there.get(), here.get()})
    optimizers.push_back(std::make_unique<AdamW>(model->parameters().trainable(),
                                                 AdamWOptions{.weight_decay = 0.1}));
  for (int step = 0; step < 5; ++step) {
    double norms[2];
    size_t i = 0;
    for (auto* model : {there.get(), here.get()}) {
      loss_of(*model, batch).backward();
      std::vector<at::Tensor> parameters;
      for (const auto& [name, leaf] : model->parameters().trainable()) parameters.push_back(leaf);
      norms[i] = clip_grad_norm(parameters, 1.0);
      optimizers[i]->step(1e-3);
      optimizers[i]->zero_grad();
      model->sync_compute_weights();
      ++i;
    }
    EXPECT_NEAR(norms[0], norms[1], 1e-4 * norms[1]);
  }
  for (size_t i = 0; i < there->parameters().items().size(); ++i)
    EXPECT_LE(relative(there->parameters().items()[i].second, here->parameters().items()[i].second),
              1e-4);
}

TEST_F(Gpu, TheEngineReadsTheWeightsOfNow) {
  for (const auto dtype : {at::kFloat, at::kBFloat16}) {
    const auto there = tiny_model("qwen2", gpu_, dtype),
               here = tiny_model("qwen2", at::kCPU, dtype);
    EXPECT_TRUE(there->weights().layers[0].q.weight.equal(here->weights().layers[0].q.weight));
    for (auto* model : {there.get(), here.get()}) testing::randomise(*model, 0.2, 9);
    EXPECT_TRUE(there->weights().embedding.equal(here->weights().embedding));
    EXPECT_TRUE(
        there->weights().layers[1].down.weight.equal(here->weights().layers[1].down.weight));
    EXPECT_TRUE(there->weights().layers[1].input_norm.weight.equal(
        here->weights().layers[1].input_norm.weight));
    (void)DecodeModel::create(*there);
  }
}

TEST_F(Gpu, AdaptersTrainAndMerge) {
  const auto batch = family_batch();
  const auto there = tiny_model("llama", gpu_), here = tiny_model("llama", at::kCPU);
  for (auto* model : {there.get(), here.get()}) {
    add_lora(*model, {.rank = 2, .seed = 4});
    at::NoGradGuard no_grad;
    for (const auto& [name, leaf] : lora_parameters(*model)) leaf.detach().add_(0.05);
    model->sync_compute_weights();
  }
  for (auto* model : {there.get(), here.get()}) loss_of(*model, batch).backward();
  for (size_t i = 0; i < lora_parameters(*there).size(); ++i)
    EXPECT_LE(
        relative(lora_parameters(*there)[i].second.grad(), lora_parameters(*here)[i].second.grad()),
        1e-4);
  for (auto* model : {there.get(), here.get()}) merge_lora(*model);
  EXPECT_NEAR(loss_of(*there, batch).item<double>(), loss_of(*here, batch).item<double>(), 1e-3);
}

TEST_F(Gpu, ChunkedLogprobsStayOnTheDevice) {
  const auto hidden = at::randn({300, 16}).set_requires_grad(true);
  const auto head = at::randn({5000, 16}).set_requires_grad(true);
  const auto targets = at::randint(0, 5000, {300}, at::kLong);
  const auto hidden_there = hidden.detach().to(gpu_).set_requires_grad(true);
  const auto head_there = head.detach().to(gpu_).set_requires_grad(true);
  const auto here = chunked_logprobs(hidden, head, targets, 0.7, true);
  const auto there = chunked_logprobs(hidden_there, head_there, targets.to(gpu_), 0.7, true);
  EXPECT_TRUE(there.logprobs_M.is_cuda());
  EXPECT_LE(relative(there.logprobs_M, here.logprobs_M), 1e-5);
  EXPECT_LE(relative(there.entropy_M, here.entropy_M), 1e-4);
  (here.logprobs_M.sum() + here.entropy_M.sum()).backward();
  (there.logprobs_M.sum() + there.entropy_M.sum()).backward();
  EXPECT_LE(relative(hidden_there.grad(), hidden.grad()), 1e-4);
  EXPECT_LE(relative(head_there.grad(), head.grad()), 1e-4);
}

/// NCCL takes one process a GPU, so on a machine with one GPU the group has one.
TEST_F(Gpu, NcclCollectives) {
  const LaunchEnv env{
      .rank = 0, .world_size = 1, .local_rank = 0, .master_port = testing::free_port()};
  const auto comm = Communicator::create(env, gpu_, "nccl", 60);
  EXPECT_EQ(comm->size(), 1);
  for (const auto dtype : {at::kFloat, at::kDouble, at::kLong, at::kBFloat16})
    for (const auto device : {at::Device(at::kCPU), gpu_}) {
      const auto values = at::arange(6, at::TensorOptions().dtype(dtype).device(device));
      for (const auto op : {ReduceOp::kSum, ReduceOp::kMin, ReduceOp::kMax}) {
        auto tensor = values.clone();
        comm->all_reduce(tensor, op);
        EXPECT_TRUE(tensor.equal(values));
      }
      auto tensor = values.clone();
      comm->broadcast(tensor, 0);
      EXPECT_TRUE(tensor.equal(values));
      EXPECT_TRUE(comm->all_gather(values)[0].equal(values));
    }
  EXPECT_EQ(comm->all_gather(std::string("text")), std::vector<std::string>{"text"});
  EXPECT_EQ(all_gather_ragged(*comm, at::arange(3))[0].numel(), 3);
  const auto alone = comm->split(0);
  auto one = at::ones({2}, at::TensorOptions().device(gpu_));
  alone->all_reduce(one, ReduceOp::kMean);
  EXPECT_EQ(one.sum().item<float>(), 2.0f);
  comm->barrier();
}

TEST_F(Gpu, ClassifiersAndFilesAreThoseOfTheCpu) {
  const auto folder = std::filesystem::temp_directory_path() / "meed-gpu-test";
  std::filesystem::remove_all(folder);
  std::filesystem::create_directories(folder);
  const auto there = tiny_model("llama", gpu_);
  save_model(folder, *there, nullptr, at::kFloat);
  const auto batch = family_batch();
  const auto last = at::tensor({6, 21, 30}, at::kLong);
  at::Tensor scores[2], gradients[2];
  for (const int i : {0, 1}) {
    const auto model = SequenceClassifier::load(
        folder,
        {.trainable = true, .lm_head = false, .device = i == 0 ? at::Device(at::kCPU) : gpu_}, 1,
        /*seed=*/3);
    scores[i] = model->forward(batch, last);
    EXPECT_TRUE(scores[i].is_cpu());
    scores[i].square().sum().backward();
    gradients[i] = model->parameters().items()[0].second.grad();
  }
  EXPECT_LE(relative(scores[1], scores[0]), 1e-5);
  EXPECT_LE(relative(gradients[1], gradients[0]), 1e-4);
  std::filesystem::remove_all(folder);
}

/// Losses of a recipe's first steps.
std::vector<double> losses_of(const std::filesystem::path& folder, const std::string& algorithm,
                              const std::string& more, const std::string& device) {
  const auto output = folder / (algorithm + "-" + device);
  const auto path = folder / (algorithm + ".yaml");
  std::ofstream(path) << "run: {output_dir: out, seed: 3, max_steps: 4, save_steps: 2}\n"
                      << "model: {path: " << MEED_SOURCE_DIR
                      << "/configs/paper/words, from_scratch: {hidden_size: 64}}\n"
                      << "algorithm: {type: " << algorithm << "}\n"
                      << "optim: {learning_rate: 1.0e-3, per_device_train_batch_size: 8}\n"
                      << more;
  const auto command = std::string(MEED_PROGRAM) + " train " + path.string() +
                       " model.device=" + device + " run.output_dir=" + output.string() +
                       " >/dev/null 2>" + (folder / "errors").string();
  EXPECT_EQ(std::system(command.c_str()), 0) << command;
  return losses(output);
}

TEST_F(Gpu, RecipesFollowTheCpus) {
  const auto folder = std::filesystem::temp_directory_path() / "meed-gpu-recipes";
  std::filesystem::remove_all(folder);
  std::filesystem::create_directories(folder);
  const std::string sums = "data: {type: arithmetic, num_rows: 64, conversational: false}\n";
  const std::string pairs = "data: {type: needle, num_rows: 64, lengths: [16]}\n";
  const std::string online = sums +
                             "rewards: [{type: format, pattern: a, match: search}]\n"
                             "rollout: {num_generations: 4, max_completion_length: 8}\n";
  const std::vector<std::pair<std::string, std::string>> recipes{{"sft", sums},
                                                                 {"dpo", pairs},
                                                                 {"reward_modelling", pairs},
                                                                 {"grpo", online},
                                                                 {"ppo", online}};
  for (const auto& [algorithm, more] : recipes) {
    const auto there = losses_of(folder, algorithm, more, "cuda"),
               here = losses_of(folder, algorithm, more, "cpu");
    ASSERT_EQ(there.size(), here.size()) << algorithm;
    ASSERT_FALSE(here.empty()) << algorithm;
    for (size_t i = 0; i < here.size(); ++i)
      EXPECT_NEAR(there[i], here[i], 1e-4 * (1 + std::abs(here[i]))) << algorithm << " step " << i;
  }
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace meed
