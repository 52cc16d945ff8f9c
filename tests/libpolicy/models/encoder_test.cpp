#include "libpolicy/models/encoder_lm.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <fstream>

#include "libpolicy/checkpoint/safetensors.h"

namespace meed {
namespace {

/// A BERT of two tiny layers in a folder that goes away with it.
class TinyBert {
 public:
  TinyBert()
      : path_(std::filesystem::temp_directory_path() /
              ("meed-tiny-bert-" + std::to_string(::getpid()))) {
    std::filesystem::create_directories(path_);
    std::ofstream(path_ / "config.json")
        << R"({"model_type": "bert", "vocab_size": 11, "hidden_size": 8, "intermediate_size": 12,
               "num_hidden_layers": 2, "num_attention_heads": 2, "max_position_embeddings": 16,
               "type_vocab_size": 2, "hidden_act": "gelu"})";
    at::manual_seed(3);
    NamedTensors tensors;
    const auto add = [&](const std::string& name, at::IntArrayRef shape) {
      auto value = at::randn(shape) * 0.4;
      if (name.find("LayerNorm.weight") != std::string::npos) value = value + 1.0;
      tensors.emplace_back(name, value);
    };
    const auto linear = [&](const std::string& name, int64_t out, int64_t in) {
      add(name + ".weight", {out, in});
      add(name + ".bias", {out});
    };
    const auto norm = [&](const std::string& name) {
      add(name + ".weight", {8});
      add(name + ".bias", {8});
    };
    add("embeddings.word_embeddings.weight", {11, 8});
    add("embeddings.position_embeddings.weight", {16, 8});
    add("embeddings.token_type_embeddings.weight", {2, 8});
    norm("embeddings.LayerNorm");
    for (const std::string layer : {"encoder.layer.0.", "encoder.layer.1."}) {
      for (const char* part : {"query", "key", "value"})
        linear(layer + "attention.self." + part, 8, 8);
      linear(layer + "attention.output.dense", 8, 8);
      norm(layer + "attention.output.LayerNorm");
      linear(layer + "intermediate.dense", 12, 8);
      linear(layer + "output.dense", 8, 12);
      norm(layer + "output.LayerNorm");
    }
    write_safetensors(path_ / "model.safetensors", tensors);
  }
  ~TinyBert() { std::filesystem::remove_all(path_); }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

PackedBatch two_texts() {
  PackedBatchBuilder builder;
  builder.add(std::vector<int64_t>{1, 5, 7, 2, 4});
  builder.add(std::vector<int64_t>{1, 9, 2});
  return builder.build();
}

TEST(TrainableEncoder, GivesWhatTheFrozenOneGives) {
  const TinyBert files;
  const auto batch = two_texts();
  const auto frozen = EncoderLm::load(files.path()),
             trainable = EncoderLm::load(files.path(), /*trainable=*/true);
  EXPECT_LT((frozen->hidden_states(batch) - trainable->hidden_states(batch).detach())
                .abs()
                .max()
                .item<double>(),
            1e-5);
}

TEST(TrainableEncoder, GradientsAreCentralDifferences) {
  const TinyBert files;
  const auto batch = two_texts();
  const auto types_N = at::tensor({0, 0, 0, 1, 1, 0, 1, 1}, at::kLong);
  const auto encoder = EncoderLm::load(files.path(), /*trainable=*/true);
  const auto direction_ND = at::randn({8, 8});
  const auto value = [&] { return (encoder->hidden_states(batch, types_N) * direction_ND).sum(); };
  value().backward();
  constexpr float kStep = 1e-2f;
  for (const auto& [name, tensor] : encoder->parameters().items()) {
    ASSERT_TRUE(tensor.grad().defined()) << name;
    // The element of the largest gradient.
    const auto place = tensor.grad().abs().argmax().item<int64_t>();
    at::NoGradGuard no_grad;
    auto element = tensor.view({-1})[place];
    const auto before = element.clone();
    element.copy_(before + kStep);
    const double above = value().item<double>();
    element.copy_(before - kStep);
    const double below = value().item<double>();
    element.copy_(before);
    const double gradient = tensor.grad().view({-1})[place].item<double>();
    // float32 and a curved function: 2 % and a little.
    EXPECT_NEAR((above - below) / (2 * kStep), gradient, 0.02 * std::abs(gradient) + 5e-3) << name;
  }
}

}  // namespace
}  // namespace meed
