#pragma once

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <thread>

#include "libpolicy/models/causal_lm.h"
#include "libpolicy/models/save_model.h"
#include "libpolicy/text/tokenizer.h"
#include "tests/free_port.h"

namespace meed {

namespace fs = std::filesystem;
using Json = nlohmann::json;

inline const fs::path kTokenizer =
    fs::path(MEED_SOURCE_DIR) / ".deps/models/smollm2-135m-instruct.gguf";

/// A metric of each step of a run that has it.
inline std::vector<double> metric(const fs::path& output_dir, const std::string& key) {
  std::vector<double> values;
  std::ifstream file(output_dir / "metrics.jsonl");
  for (std::string line; std::getline(file, line);)
    if (const auto json = Json::parse(line); json.contains(key))
      values.push_back(json[key].get<double>());
  return values;
}

inline std::vector<double> losses(const fs::path& output_dir) { return metric(output_dir, "loss"); }

/// Runs the real program on a model of random weights that reads SmolLM2's tokenizer.
class ProgramTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    if (!fs::exists(kTokenizer)) return;
    folder_ = fs::temp_directory_path() / ("meed-program-" + std::to_string(::getpid()));
    fs::create_directories(folder_ / "tiny");
    const auto tokenizer = Tokenizer::load(kTokenizer);
    const auto config = ModelConfig::from_json(
        R"({"model_type": "llama", "vocab_size": 49152, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
            "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512, "rms_norm_eps": 1e-5,
            "tie_word_embeddings": true, "eos_token_id": 2, "bos_token_id": 1})",
        "config.json");
    const auto model = CausalLm::create(config, /*seed=*/1);
    save_model(folder_ / "tiny", *model, tokenizer.get(), at::kFloat);
  }
  static void TearDownTestSuite() { fs::remove_all(folder_); }
  void SetUp() override {
    if (!fs::exists(kTokenizer))
      GTEST_SKIP() << kTokenizer << " is not there; run scripts/setup.sh";
  }

  static std::string recipe(const std::string& algorithm, const std::string& more = "") {
    const auto path = folder_ / (algorithm + ".yaml");
    std::ofstream(path) << "run: {output_dir: " << (folder_ / algorithm).string()
                        << ", seed: 3, max_steps: 4, save_steps: 2}\n"
                        << "model: {path: " << (folder_ / "tiny").string() << "}\n"
                        << "algorithm: {type: " << algorithm << "}\n"
                        << "data: {type: arithmetic, num_rows: 64}\n"
                        << "optim: {learning_rate: 1.0e-3, per_device_train_batch_size: 8}\n"
                        << more;
    return path.string();
  }

  /// Exit code of `meed ARGUMENTS`; standard error goes to a file.
  static int run(const std::string& arguments, const std::string& environment = "") {
    const auto command = environment + " OMP_NUM_THREADS=1 " + std::string(MEED_PROGRAM) + " " +
                         arguments + " >" + (folder_ / "out.txt").string() + " 2>" +
                         (folder_ / "err.txt").string();
    const int status = std::system(command.c_str());
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }
  static std::string errors() {
    std::ifstream file(folder_ / "err.txt");
    return {std::istreambuf_iterator<char>(file), {}};
  }

  /// Losses of the same arguments under one process and under `count`; `share` divides the batch.
  static void expect_equal_in_processes(int count, const std::string& path, const std::string& name,
                                        const std::string& share) {
    const int port = testing::free_port();
    const auto one = folder_ / (name + "-one"), many = folder_ / (name + "-many");
    fs::remove_all(many);
    if (!fs::exists(one)) {
      ASSERT_EQ(run("train " + path + " run.output_dir=" + one.string()), 0) << name << errors();
    }
    const std::string arguments =
        "train " + path + " " + share + " run.ddp_timeout=60 run.output_dir=" + many.string();
    const auto environment = [&](int rank) {
      return "RANK=" + std::to_string(rank) + " LOCAL_RANK=" + std::to_string(rank) +
             " WORLD_SIZE=" + std::to_string(count) +
             " MASTER_ADDR=127.0.0.1 MASTER_PORT=" + std::to_string(port);
    };
    std::vector<int> codes(static_cast<size_t>(count), -1);
    std::vector<std::thread> others;
    for (int rank = 1; rank < count; ++rank)
      others.emplace_back([&, rank] {
        codes[static_cast<size_t>(rank)] =
            std::system((environment(rank) + " OMP_NUM_THREADS=1 " + MEED_PROGRAM + " " +
                         arguments + " >/dev/null 2>&1")
                            .c_str());
      });
    codes[0] = run(arguments, environment(0));
    for (auto& other : others) other.join();
    ASSERT_EQ(codes, std::vector<int>(static_cast<size_t>(count), 0)) << name << errors();
    const auto a = losses(one), b = losses(many);
    ASSERT_EQ(a.size(), b.size()) << name;
    EXPECT_FALSE(a.empty()) << name;
    for (size_t i = 0; i < a.size(); ++i)
      EXPECT_NEAR(a[i], b[i], 1e-5) << name << " step " << i + 1;
  }
  static void expect_equal_in_two_processes(const std::string& path, const std::string& name,
                                            const std::string& half) {
    expect_equal_in_processes(2, path, name, half);
  }

  static inline fs::path folder_;
};

}  // namespace meed
