// Values by transformers: tests/golden/make_models_golden.py says how they were made.
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "libpolicy/core/files.h"
#include "libpolicy/models/encoder_lm.h"
#include "tests/libpolicy/gguf_writer.h"
#include "tests/libpolicy/models/tiny_models.h"

namespace meed {
namespace {

const std::filesystem::path kSource = MEED_SOURCE_DIR;

const nlohmann::json& golden() {
  static const auto json =
      nlohmann::json::parse(read_file(kSource / "tests/golden/models_golden.json"));
  return json;
}

at::Tensor formula(const std::string& name, at::IntArrayRef shape) {
  uint32_t hash = 2166136261u;
  for (const char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 16777619u;
  auto values = at::empty(shape, at::kFloat);
  auto* data = values.data_ptr<float>();
  const double base = shape.size() == 1 && name.ends_with("weight") ? 1.0 : 0.0;
  for (int64_t j = 0; j < values.numel(); ++j) {
    const auto bits = hash + 2654435761u * static_cast<uint32_t>(j + 1);
    data[j] = static_cast<float>((static_cast<double>(bits) / 4294967296.0 - 0.5) * 0.5 + base);
  }
  return values;
}

struct Rows {
  PackedBatch batch;
  at::Tensor expected;  // log-probabilities of all predicted tokens, in order
};

Rows rows_of(const nlohmann::json& json) {
  PackedBatchBuilder builder;
  std::vector<float> expected;
  for (const auto& row : json) {
    builder.add(row["ids"].get<std::vector<int64_t>>());
    for (const auto& value : row["logprobs"]) expected.push_back(value.get<float>());
  }
  return {builder.build(), at::tensor(expected)};
}

double largest_difference(const at::Tensor& a, const at::Tensor& b) {
  return (a - b).abs().max().item<double>();
}

TEST(Golden, LogprobsAndGradientsOfEveryFamilyAgreeWithTransformers) {
  for (const auto& entry : golden()["families"]) {
    const auto name = entry["name"].get<std::string>();
    const auto config = ModelConfig::from_json(entry["config"].dump(), name);
    const auto model = CausalLm::create(config, 0, {.trainable = true});
    {
      at::NoGradGuard no_grad;
      for (const auto& [key, leaf] : model->parameters().items())
        leaf.detach().copy_(formula(key, leaf.sizes()));
    }
    const auto rows = rows_of(entry["rows"]);
    const auto logprobs =
        token_logprobs(*model, rows.batch, testing::predicted(rows.batch)).logprobs_M;
    EXPECT_LE(largest_difference(logprobs.detach(), rows.expected), 1e-5) << name;
    (-logprobs.mean()).backward();
    EXPECT_EQ(entry["gradients"].size(), model->parameters().items().size()) << name;
    for (const auto& [key, leaf] : model->parameters().items()) {
      const auto& pair = entry["gradients"].at(key);
      const double norm = pair[0].get<double>();
      EXPECT_NEAR(leaf.grad().norm().item<double>(), norm, 2e-5 * norm + 1e-7)
          << name << " " << key;
      EXPECT_NEAR((leaf.grad() * formula(key + "?", leaf.sizes())).sum().item<double>(),
                  pair[1].get<double>(), 2e-4 * norm + 1e-6)
          << name << " " << key;
    }
  }
}

TEST(Golden, ConfigSurvivesWritingAndReading) {
  for (const auto& entry : golden()["families"]) {
    auto config = ModelConfig::from_json(entry["config"].dump(), "config.json");
    config.source_json.clear();
    const auto again = ModelConfig::from_json(config.to_json(), "config.json");
    EXPECT_EQ(again.to_json(), ModelConfig::from_json(again.to_json(), "config.json").to_json());
    EXPECT_EQ(again.sliding_window, config.sliding_window);
    EXPECT_EQ(again.rope_theta, config.rope_theta);
    EXPECT_EQ(again.rope_scaling.type, config.rope_scaling.type);
    EXPECT_EQ(again.rope_scaling.factor, config.rope_scaling.factor);
    EXPECT_EQ(again.rope_scaling.attention_factor, config.rope_scaling.attention_factor);
    EXPECT_EQ(again.rope_scaling.beta_fast, config.rope_scaling.beta_fast);
    EXPECT_EQ(again.rope_scaling.truncate, config.rope_scaling.truncate);
    EXPECT_EQ(again.rope_scaling.short_factor, config.rope_scaling.short_factor);
    EXPECT_EQ(again.window_layers, config.window_layers);
    EXPECT_EQ(again.attention_bias, config.attention_bias);
    EXPECT_EQ(again.attention_out_bias, config.attention_out_bias);
    EXPECT_EQ(again.tie_embeddings, config.tie_embeddings);
    EXPECT_EQ(again.head_dim, config.head_dim);
    EXPECT_EQ(again.norm_eps, config.norm_eps);
  }
}

TEST(Golden, SmolLm2AgreesWithTransformers) {
  const auto path = kSource / ".deps/models/smollm2-135m-instruct.gguf";
  if (!std::filesystem::exists(path))
    GTEST_SKIP() << path << " is not there; scripts/setup.sh fetches it";
  const auto rows = rows_of(golden()["smollm2"]);
  const auto model = CausalLm::load(path);
  const auto logprobs =
      token_logprobs(*model, rows.batch, testing::predicted(rows.batch)).logprobs_M;
  EXPECT_LE(largest_difference(logprobs, rows.expected), 1e-4);
}

TEST(Golden, MiniLmAgreesWithTransformers) {
  const auto path = kSource / ".deps/models/all-minilm-l6-v2";
  if (!std::filesystem::exists(path))
    GTEST_SKIP() << path << " is not there; scripts/setup.sh fetches it";
  const auto encoder = EncoderLm::load(path);
  PackedBatchBuilder builder;
  std::vector<at::Tensor> expected;
  for (const auto& row : golden()["minilm"]) {
    builder.add(row["ids"].get<std::vector<int64_t>>());
    expected.push_back(at::tensor(row["embedding"].get<std::vector<float>>()));
  }
  const auto embeddings_BD = embed_segments(*encoder, builder.build());
  EXPECT_LE(largest_difference(embeddings_BD.narrow(1, 0, 48), at::stack(expected)), 1e-5);
  EXPECT_LE((embeddings_BD.norm(2, 1) - 1.0).abs().max().item<double>(), 1e-5);
}

/// llama.cpp's name of a BERT parameter.
std::string gguf_name(std::string name) {
  const auto replace = [&](const std::string& from, const std::string& to) {
    if (const auto at = name.find(from); at != std::string::npos) name.replace(at, from.size(), to);
  };
  replace("encoder.layer.", "blk.");
  replace("embeddings.word_embeddings", "token_embd");
  replace("embeddings.position_embeddings", "position_embd");
  replace("embeddings.token_type_embeddings", "token_types");
  replace("embeddings.LayerNorm", "token_embd_norm");
  replace("attention.self.query", "attn_q");
  replace("attention.self.key", "attn_k");
  replace("attention.self.value", "attn_v");
  replace("attention.output.dense", "attn_output");
  replace("attention.output.LayerNorm", "attn_output_norm");
  replace("intermediate.dense", "ffn_up");
  replace("output.dense", "ffn_down");
  replace("output.LayerNorm", "layer_output_norm");
  return name;
}

TEST(Golden, AnEncoderInAGgufIsTheSame) {
  const auto path = kSource / ".deps/models/all-minilm-l6-v2";
  if (!std::filesystem::exists(path))
    GTEST_SKIP() << path << " is not there; scripts/setup.sh fetches it";
  const auto encoder = EncoderLm::load(path);
  const auto& config = encoder->config();
  testing::GgufWriter writer;
  writer.add("general.architecture", "bert");
  for (const auto& [key, value] :
       std::map<std::string, int64_t>{{"attention.head_count", config.num_heads},
                                      {"embedding_length", config.hidden_size},
                                      {"block_count", config.num_layers},
                                      {"feed_forward_length", config.intermediate_size},
                                      {"context_length", config.max_positions}})
    writer.add("bert." + key, static_cast<uint32_t>(value));
  writer.add("bert.attention.layer_norm_epsilon", static_cast<float>(config.norm_eps));
  for (const auto& [name, tensor] : encoder->parameters().items()) {
    std::vector<uint64_t> shape(tensor.sizes().rbegin(), tensor.sizes().rend());
    const auto* values = tensor.const_data_ptr<float>();
    writer.add_tensor(gguf_name(name), shape, std::vector<float>(values, values + tensor.numel()));
  }
  const auto gguf =
      std::filesystem::temp_directory_path() / ("meed-bert-" + std::to_string(::getpid()));
  writer.write(gguf);
  const auto again = EncoderLm::load(gguf);
  std::filesystem::remove(gguf);
  PackedBatchBuilder builder;
  builder.add(golden()["minilm"][0]["ids"].get<std::vector<int64_t>>());
  const auto batch = builder.build();
  EXPECT_TRUE(at::equal(encoder->hidden_states(batch), again->hidden_states(batch)));
}

}  // namespace
}  // namespace meed
