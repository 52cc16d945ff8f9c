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

// The real program on a model of random weights that reads SmolLM2's tokenizer.

namespace meed {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

const fs::path kTokenizer = fs::path(MEED_SOURCE_DIR) / ".deps/models/smollm2-135m-instruct.gguf";

class Training : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    if (!fs::exists(kTokenizer)) return;
    folder_ = fs::temp_directory_path() / ("meed-training-" + std::to_string(::getpid()));
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
  static std::vector<double> losses(const fs::path& output_dir) {
    std::vector<double> values;
    std::ifstream file(output_dir / "metrics.jsonl");
    for (std::string line; std::getline(file, line);)
      if (const auto json = Json::parse(line); json.contains("loss"))
        values.push_back(json["loss"].get<double>());
    return values;
  }

  static inline fs::path folder_;
};

const char* kGrpo =
    "rewards: [{type: format, pattern: \"[a-m]\", match: search}]\n"
    "rollout: {num_generations: 4, max_completion_length: 6}\n";

TEST_F(Training, SftLearnsAndLeavesEverythingBehind) {
  ASSERT_EQ(run("train " + recipe("sft") +
                " run.max_steps=12 run.output_dir=" + (folder_ / "a").string()),
            0)
      << errors();
  const auto values = losses(folder_ / "a");
  ASSERT_EQ(values.size(), 12u);
  EXPECT_LT(values.back(), values.front());
  for (const char* name :
       {"metrics.jsonl", "report.html", "config.yaml", "environment.json", "final/config.json",
        "final/model.safetensors", "final/tokenizer.json", "checkpoints/step-12/state.json"})
    EXPECT_TRUE(fs::exists(folder_ / "a" / name)) << name;
  EXPECT_EQ(run("train " + recipe("sft") + " run.output_dir=" + (folder_ / "a").string()),
            2);  // holds a run already
}

TEST_F(Training, AResumedRunGivesTheVerySameLosses) {
  for (const std::string algorithm : {"sft", "grpo"}) {
    const auto path = recipe(algorithm, algorithm == "grpo" ? kGrpo : "");
    const auto straight = folder_ / (algorithm + "-straight"),
               resumed = folder_ / (algorithm + "-resumed");
    ASSERT_EQ(run("train " + path +
                  " optim.lr_scheduler_type=constant run.output_dir=" + straight.string()),
              0)
        << errors();
    ASSERT_EQ(
        run("train " + path +
            " optim.lr_scheduler_type=constant run.max_steps=2 run.output_dir=" + resumed.string()),
        0)
        << errors();
    ASSERT_EQ(run("train " + path +
                  " optim.lr_scheduler_type=constant --resume run.output_dir=" + resumed.string()),
              0)
        << errors();
    EXPECT_EQ(losses(straight), losses(resumed)) << algorithm;
  }
}

TEST_F(Training, TwoProcessesGiveTheLossesOfOne) {
  int port = 29511 + static_cast<int>(::getpid() % 1000);
  for (const std::string algorithm : {"sft", "grpo"}) {
    const auto path = recipe(algorithm, algorithm == "grpo" ? kGrpo : "");
    const auto one = folder_ / (algorithm + "-one"), two = folder_ / (algorithm + "-two");
    ASSERT_EQ(run("train " + path + " run.output_dir=" + one.string()), 0) << errors();
    const std::string arguments =
        "train " + path +
        " optim.per_device_train_batch_size=4 run.ddp_timeout=60 run.output_dir=" + two.string();
    const auto environment = [&](int rank) {
      return "RANK=" + std::to_string(rank) + " LOCAL_RANK=" + std::to_string(rank) +
             " WORLD_SIZE=2 MASTER_ADDR=127.0.0.1 MASTER_PORT=" + std::to_string(port);
    };
    int second = -1;
    std::thread other([&] {
      second = std::system((environment(1) + " OMP_NUM_THREADS=1 " + MEED_PROGRAM + " " +
                            arguments + " >/dev/null 2>&1")
                               .c_str());
    });
    const int first = run(arguments, environment(0));
    other.join();
    ASSERT_EQ(first, 0) << errors();
    EXPECT_EQ(second, 0);
    const auto a = losses(one), b = losses(two);
    ASSERT_EQ(a.size(), b.size());
    for (size_t i = 0; i < a.size(); ++i)
      EXPECT_NEAR(a[i], b[i], 1e-5) << algorithm << " step " << i + 1;
    ++port;
  }
}

TEST_F(Training, ATypoIsNamedAndNothingIsWritten) {
  const auto path = folder_ / "typo.yaml";
  std::ofstream(path) << "run: {output_dir: " << (folder_ / "never").string()
                      << ", max_step: 4}\nmodel: {path: x}\nalgorithm: {type: sfd}\ndata: {type: "
                         "arithmetic, num_rows: many}\n";
  EXPECT_EQ(run("train " + path.string()), 2);
  const auto text = errors();
  EXPECT_NE(text.find("run.max_step: unknown key; did you mean \"max_steps\"?"), std::string::npos)
      << text;
  EXPECT_NE(text.find("unknown algorithm \"sfd\"; did you mean \"sft\"?"), std::string::npos)
      << text;
  EXPECT_NE(text.find("data.num_rows: expected an integer, got \"many\""), std::string::npos)
      << text;
  EXPECT_FALSE(fs::exists(folder_ / "never"));
}

TEST_F(Training, EveryRecipeReadsWithoutAMistake) {
  for (const auto& entry :
       fs::recursive_directory_iterator(fs::path(MEED_SOURCE_DIR) / "configs")) {
    if (entry.path().extension() != ".yaml" ||
        entry.path().string().find("/eval/") != std::string::npos)
      continue;
    EXPECT_EQ(run("train --dry-run " + entry.path().string()), 0) << errors();
  }
}

}  // namespace
}  // namespace meed
