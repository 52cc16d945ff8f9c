#include "libpolicy/models/model_config.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "libpolicy/core/error.h"

namespace meed {
namespace {

using nlohmann::json;

json llama() {
  return {{"model_type", "llama"},    {"vocab_size", 50},
          {"hidden_size", 32},        {"intermediate_size", 64},
          {"num_hidden_layers", 2},   {"num_attention_heads", 4},
          {"num_key_value_heads", 2}, {"max_position_embeddings", 64}};
}

ModelConfig read(const json& config) {
  return ModelConfig::from_json(config.dump(), "config.json");
}

std::string problem_of(const json& config) {
  try {
    read(config);
  } catch (const DataError& e) {
    return e.what();
  }
  return "";
}

json with(const std::string& key, const json& value) {
  auto config = llama();
  config[key] = value;
  return config;
}

TEST(ModelConfig, ReadsOldAndNewSpellingOfRotaryScaling) {
  const json scaling{{"rope_type", "llama3"},
                     {"factor", 8.0},
                     {"low_freq_factor", 1.0},
                     {"high_freq_factor", 4.0},
                     {"original_max_position_embeddings", 32}};
  auto old_spelling = with("rope_scaling", scaling);
  old_spelling["rope_theta"] = 500000.0;
  auto parameters = scaling;
  parameters["rope_theta"] = 500000.0;
  for (const auto& config : {read(old_spelling), read(with("rope_parameters", parameters))}) {
    EXPECT_EQ(config.rope_theta, 500000.0);
    EXPECT_EQ(config.rope_scaling.type, "llama3");
    EXPECT_EQ(config.rope_scaling.factor, 8.0);
    EXPECT_EQ(config.rope_scaling.original_max_positions, 32);
  }
  EXPECT_EQ(read(with("rope_scaling", {{"type", "linear"}, {"factor", 2.0}})).rope_scaling.type,
            "linear");
}

TEST(ModelConfig, WindowsAreAllLayersOrNone) {
  auto qwen = with("sliding_window", 16);
  qwen["model_type"] = "qwen2";
  EXPECT_EQ(read(qwen).sliding_window, 0);
  qwen["use_sliding_window"] = true;
  EXPECT_EQ(read(qwen).sliding_window, 0);  // max_window_layers is 28 unless said
  qwen["max_window_layers"] = 0;
  EXPECT_EQ(read(qwen).sliding_window, 16);
  qwen["max_window_layers"] = 1;
  EXPECT_NE(problem_of(qwen).find("max_window_layers: a sliding window in some layers only"),
            std::string::npos);
  qwen["layer_types"] = {"sliding_attention", "sliding_attention"};
  EXPECT_EQ(read(qwen).sliding_window, 16);
  auto mistral = with("sliding_window", 16);
  mistral["model_type"] = "mistral";
  EXPECT_EQ(read(mistral).sliding_window, 16);
  mistral["sliding_window"] = nullptr;
  EXPECT_EQ(read(mistral).sliding_window, 0);
}

TEST(ModelConfig, NamesTheKeyOfWhatIsNotSupported) {
  EXPECT_EQ(problem_of(with("model_type", "mamba")),
            "config.json: model_type: \"mamba\" is not supported (supported: llama, mistral, "
            "qwen2, qwen3, gpt2)");
  EXPECT_EQ(problem_of(with("rope_scaling", {{"rope_type", "yarn"}, {"factor", 4.0}})),
            "config.json: rope_scaling: rope_type: \"yarn\" is not supported (supported: default, "
            "linear, llama3)");
  EXPECT_NE(problem_of(with("quantization_config", {{"bits", 4}})).find("quantization_config: "),
            std::string::npos);
  EXPECT_NE(problem_of(with("num_local_experts", 8)).find("num_local_experts: "),
            std::string::npos);
  EXPECT_NE(problem_of(with("hidden_act", "relu")).find("hidden_act: activation \"relu\""),
            std::string::npos);
  EXPECT_EQ(problem_of(with("num_key_value_heads", 3)),
            "config.json: num_key_value_heads: 3 does not divide num_attention_heads 4");
}

TEST(ModelConfig, RefusesValuesOfTheWrongKind) {
  EXPECT_EQ(problem_of(with("hidden_size", "32")),
            "config.json: hidden_size: expected a positive integer, got \"32\"");
  EXPECT_NE(problem_of(with("hidden_size", -1)), "");
  EXPECT_NE(problem_of(with("vocab_size", 1e300)), "");
  EXPECT_NE(problem_of(with("vocab_size", int64_t{1} << 60)), "");
  EXPECT_NE(problem_of(with("rope_theta", "many")), "");
  EXPECT_NE(problem_of(with("rope_parameters", 3)), "");
  EXPECT_NE(problem_of(with("head_dim", 7)), "");
  EXPECT_NE(problem_of(with("eos_token_id", {1, "x"})), "");
  auto missing = llama();
  missing.erase("vocab_size");
  EXPECT_EQ(problem_of(missing), "config.json: vocab_size: is missing");
  EXPECT_THROW(ModelConfig::from_json("[]", "config.json"), DataError);
  EXPECT_THROW(ModelConfig::from_json("{", "config.json"), DataError);
}

TEST(ModelConfig, WritesWhatChangedAndKeepsTheRest) {
  auto config = read(with("my_key", 5));
  config.num_labels = 3;
  const auto written = json::parse(config.to_json());
  EXPECT_EQ(written["my_key"], 5);
  EXPECT_EQ(written["architectures"][0], "LlamaForSequenceClassification");
  EXPECT_EQ(written["id2label"].size(), 3u);
  EXPECT_EQ(read(written).num_labels, 3);
}

}  // namespace
}  // namespace meed
