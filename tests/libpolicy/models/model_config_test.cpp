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

TEST(ModelConfig, WindowsGoByLayer) {
  auto qwen = with("sliding_window", 16);
  qwen["model_type"] = "qwen2";
  EXPECT_EQ(read(qwen).sliding_window, 0);
  qwen["use_sliding_window"] = true;
  EXPECT_EQ(read(qwen).sliding_window, 0);  // max_window_layers is 28 unless said
  qwen["max_window_layers"] = 0;
  EXPECT_EQ(read(qwen).sliding_window, 16);
  qwen["max_window_layers"] = 1;
  EXPECT_EQ(read(qwen).window_of(0), 0);
  EXPECT_EQ(read(qwen).window_of(1), 16);
  qwen["layer_types"] = {"sliding_attention", "full_attention"};  // goes before max_window_layers
  for (const auto& config : {read(qwen), read(json::parse(read(qwen).to_json()))}) {
    EXPECT_EQ(config.window_of(0), 16);
    EXPECT_EQ(config.window_of(1), 0);
  }
  qwen["layer_types"] = {"sliding_attention", "sliding_attention"};
  EXPECT_EQ(read(qwen).window_of(1), 16);
  qwen["layer_types"] = {"full_attention", "full_attention"};
  EXPECT_EQ(read(qwen).sliding_window, 0);
  qwen["layer_types"] = {"sliding_attention"};
  EXPECT_EQ(problem_of(qwen),
            "config.json: layer_types: expected one entry for each of the 2 layers");
  qwen["layer_types"] = {"sliding_attention", "linear_attention"};
  EXPECT_EQ(problem_of(qwen),
            "config.json: layer_types: \"linear_attention\" is not supported "
            "(supported: full_attention, sliding_attention)");
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
  EXPECT_EQ(problem_of(with("rope_scaling", {{"rope_type", "su"}, {"factor", 4.0}})),
            "config.json: rope_scaling: rope_type: \"su\" is not supported (supported: default, "
            "linear, dynamic, yarn, longrope, llama3)");
  EXPECT_NE(problem_of(with("quantization_config", {{"bits", 4}})).find("quantization_config: "),
            std::string::npos);
  EXPECT_NE(problem_of(with("num_local_experts", 8)).find("num_local_experts: "),
            std::string::npos);
  EXPECT_NE(problem_of(with("hidden_act", "relu")).find("hidden_act: activation \"relu\""),
            std::string::npos);
  EXPECT_EQ(problem_of(with("num_key_value_heads", 3)),
            "config.json: num_key_value_heads: 3 does not divide num_attention_heads 4");
}

TEST(ModelConfig, RotaryScalingThatCannotBeIsNamed) {
  const auto problem = [](const json& scaling) {
    return problem_of(with("rope_scaling", scaling));
  };
  EXPECT_EQ(problem({{"rope_type", "yarn"}}),
            "config.json: rope_scaling: factor: expected a number of at least 1");
  EXPECT_EQ(
      problem({{"rope_type", "yarn"}, {"factor", 4.0}, {"beta_fast", 1.0}, {"beta_slow", 2.0}}),
      "config.json: rope_scaling: beta_fast: must be at least beta_slow, both positive");
  EXPECT_EQ(problem({{"rope_type", "yarn"}, {"factor", 4.0}, {"attention_factor", -1.0}}),
            "config.json: rope_scaling: attention_factor: must be positive");
  EXPECT_EQ(
      problem({{"rope_type", "longrope"}, {"short_factor", {1.0, 2.0}}}),
      "config.json: rope_scaling: short_factor: expected 4 positive numbers, half of head_dim");
  EXPECT_EQ(problem({{"rope_type", "longrope"}}),
            "config.json: rope_scaling: short_factor: is missing");
}

TEST(ModelConfig, YarnScalesAttentionByTheLogarithmOfTheFactor) {
  const auto scale = [](const json& more) {
    json scaling = {{"rope_type", "yarn"}, {"factor", 4.0}};
    scaling.update(more);
    return read(with("rope_scaling", scaling)).rope_scaling.attention_factor;
  };
  EXPECT_NEAR(scale(json::object()), 1.138629, 1e-6);  // 0.1 ln 4 + 1
  EXPECT_NEAR(scale({{"mscale", 0.5}, {"mscale_all_dim", 1.0}}), 1.069315 / 1.138629, 1e-6);
  EXPECT_EQ(scale({{"attention_factor", 0.75}}), 0.75);
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
