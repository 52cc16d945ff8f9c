// Values by the gguf package: tests/golden/make_gguf_golden.py says how they were made.
#include "libpolicy/checkpoint/gguf.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <numbers>

#include "libpolicy/checkpoint/model_files.h"
#include "libpolicy/core/error.h"
#include "libpolicy/core/files.h"
#include "tests/libpolicy/gguf_writer.h"

namespace meed {
namespace {

namespace fs = std::filesystem;

std::string from_hex(const std::string& hex) {
  std::string bytes;
  for (size_t i = 0; i < hex.size(); i += 2)
    bytes += static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16));
  return bytes;
}

TEST(Gguf, EveryBlockTypeHasTheValuesOfAnIndependentReader) {
  const auto golden = nlohmann::json::parse(
      read_file(fs::path(MEED_SOURCE_DIR) / "tests/golden/gguf_golden.json"))["blocks"];
  ASSERT_GE(golden.size(), 20u);
  testing::GgufWriter writer;
  for (const auto& [name, block] : golden.items())
    writer.add_tensor(name, {block["values"].size()}, block["type"].get<uint32_t>(),
                      from_hex(block["bytes"].get<std::string>()));
  const auto path = fs::temp_directory_path() / ("meed-gguf-" + std::to_string(::getpid()));
  writer.write(path);
  const GgufFile file(path);
  for (const auto& [name, block] : golden.items()) {
    const auto expected = at::tensor(block["values"].get<std::vector<float>>());
    const auto values = file.load(name);
    ASSERT_EQ(values.sizes(), expected.sizes()) << name;
    // The golden file has eight digits; ggml multiplies some scales in another order.
    const double largest = expected.abs().max().item<double>();
    EXPECT_LE((values - expected).abs().max().item<double>(), 1e-6 * largest) << name;
  }
  fs::remove(path);
}

/// config.json of a Llama with keys and tensors added.
nlohmann::json config_of(const std::function<void(testing::GgufWriter&)>& more) {
  testing::GgufWriter writer;
  writer.add("general.architecture", "llama");
  for (const auto& [key, value] : std::map<std::string, uint32_t>{{"attention.head_count", 2},
                                                                  {"embedding_length", 128},
                                                                  {"block_count", 1},
                                                                  {"feed_forward_length", 8},
                                                                  {"context_length", 131072}})
    writer.add("llama." + key, value);
  writer.add("llama.rope.freq_base", 500000.0f);
  writer.add_tensor("token_embd.weight", {128, 2}, std::vector<float>(256));
  more(writer);
  const struct File {
    fs::path path = fs::temp_directory_path() / ("meed-rope-" + std::to_string(::getpid()));
    ~File() { fs::remove(path); }
  } file;
  writer.write(file.path);
  return nlohmann::json::parse(ModelFiles::open(file.path)->config_json());
}

nlohmann::json scaling_of(const std::function<void(testing::GgufWriter&)>& more) {
  return config_of(more).value("rope_scaling", nlohmann::json());
}

std::vector<float> llama3_divisors(double factor, double low, double high, double original) {
  std::vector<float> divisors;
  for (int i = 0; i < 32; ++i) {
    const double wavelength = 2.0 * std::numbers::pi * std::pow(500000.0, 2.0 * i / 64.0);
    const double smooth = (original / wavelength - low) / (high - low);
    divisors.push_back(wavelength < original / high ? 1.0f
                       : wavelength > original / low
                           ? static_cast<float>(factor)
                           : static_cast<float>(1.0 / ((1.0 - smooth) / factor + smooth)));
  }
  return divisors;
}

TEST(Gguf, DivisorsOfTheFrequenciesBecomeTheParametersThatMadeThem) {
  // Llama 3.1 and 3.2 as published; then one of which low_freq_factor is not 1: the three scale
  // together.
  for (const auto& [factor, low, high, original, read_high, read_original] :
       std::vector<std::array<double, 6>>{
           {8, 1, 4, 8192, 4, 8192}, {32, 1, 4, 8192, 4, 8192}, {4, 2, 6, 4096, 3, 2048}}) {
    const auto divisors = llama3_divisors(factor, low, high, original);
    const auto scaling = scaling_of([&](testing::GgufWriter& writer) {
      writer.add_tensor("rope_freqs.weight", {32}, divisors);
    });
    EXPECT_EQ(scaling["rope_type"], "llama3");
    EXPECT_EQ(scaling["factor"], factor);
    EXPECT_EQ(scaling["low_freq_factor"], 1.0);
    EXPECT_NEAR(scaling["high_freq_factor"].get<double>(), read_high, 1e-3);
    EXPECT_NEAR(scaling["original_max_position_embeddings"].get<double>(), read_original, 1.0);
  }
}

TEST(Gguf, OtherDivisorsAreKeptAsTheyAre) {
  std::vector<float> divisors;
  for (int i = 0; i < 32; ++i) divisors.push_back(1.0f + 0.25f * static_cast<float>(i % 5));
  const auto scaling = scaling_of(
      [&](testing::GgufWriter& writer) { writer.add_tensor("rope_freqs.weight", {32}, divisors); });
  EXPECT_EQ(scaling["rope_type"], "longrope");
  EXPECT_EQ(scaling["short_factor"].get<std::vector<float>>(), divisors);
  EXPECT_EQ(scaling["attention_factor"], 1.0);
  EXPECT_THROW(scaling_of([&](testing::GgufWriter& writer) {
                 writer.add_tensor("rope_freqs.weight", {2}, {1.0f, 2.0f});
               }),
               DataError);
}

TEST(Gguf, AnEndOfTurnEndsATextToo) {
  const auto config = config_of([](testing::GgufWriter& writer) {
    writer.add("tokenizer.ggml.eos_token_id", uint32_t{0});
    writer.add("tokenizer.ggml.eot_token_id", uint32_t{1});
  });
  EXPECT_EQ(config["eos_token_id"], (std::vector<int>{0, 1}));
}

TEST(Gguf, YarnAndLinearScalingAreRead) {
  const auto yarn = scaling_of([](testing::GgufWriter& writer) {
    writer.add("llama.rope.scaling.type", "yarn");
    writer.add("llama.rope.scaling.factor", 4.0f);
    writer.add("llama.rope.scaling.original_context_length", uint32_t{32768});
  });
  EXPECT_EQ(yarn["rope_type"], "yarn");
  EXPECT_EQ(yarn["factor"], 4.0);
  EXPECT_EQ(yarn["original_max_position_embeddings"], 32768);
  EXPECT_TRUE(scaling_of([](testing::GgufWriter&) {}).is_null());
  EXPECT_THROW(scaling_of([](testing::GgufWriter& writer) {
                 writer.add("llama.rope.scaling.type", "longrope");
               }),
               DataError);
}

}  // namespace
}  // namespace meed
