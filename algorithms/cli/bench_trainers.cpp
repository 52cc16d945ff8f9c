#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "algorithms/cli/bench.h"
#include "algorithms/training_run.h"
#include "libpolicy/core/error.h"
#include "libpolicy/core/files.h"
#include "libpolicy/core/random.h"
#include "libpolicy/text/tokenizer.h"

namespace meed::cli {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

/// Rows of random words of the vocabulary, as the peer's script makes them.
class RandomTexts {
 public:
  explicit RandomTexts(const std::string& model) : tokenizer_(Tokenizer::load(model)) {}
  std::string operator()(int64_t tokens) {
    std::vector<int64_t> ids;
    for (int64_t i = 0; i < tokens; ++i)
      ids.push_back(random_.next_int(300, tokenizer_->vocab_size() - 1000));
    return tokenizer_->decode(ids);
  }

 private:
  std::unique_ptr<Tokenizer> tokenizer_;
  RandomStream random_{0};
};

Json make_row(const std::string& kind, const BenchOptions& options, RandomTexts& text) {
  const int64_t half = options.tokens / 2;
  constexpr int64_t kMargin = 20;
  if (kind == "sft") return {{"text", text(options.tokens * 2)}};
  if (kind == "reward")
    return {{"chosen", text(options.tokens - kMargin)},
            {"rejected", text(options.tokens - kMargin)}};
  if (kind == "dpo")
    return {{"prompt", text(half)},
            {"chosen", text(half - kMargin)},
            {"rejected", text(half - kMargin)}};
  return {{"prompt", text(options.prompt_tokens)}};
}

std::string make_recipe(const std::string& kind, const BenchOptions& options,
                        const fs::path& folder) {
  const auto max_length = std::to_string(options.tokens);
  std::string algorithm = kind == "reward"
                              ? "{type: reward_modelling, max_length: " + max_length + "}"
                              : "{type: " + kind + ", max_length: " + max_length + "}";
  if (kind == "grpo") algorithm = "{type: grpo}";
  const auto new_tokens = std::to_string(options.new_tokens);
  std::string recipe = "run: {output_dir: " + (folder / "run").string() +
                       ", save_steps: 0, max_steps: " + std::to_string(options.steps) + "}\n" +
                       "model: {path: " + options.model + ", dtype: " + options.dtype +
                       ", device: " + options.device + "}\nalgorithm: " + algorithm + "\n" +
                       "data: {type: jsonl, path: " + (folder / "rows.jsonl").string() + "}\n" +
                       "optim: {learning_rate: 1.0e-6, per_device_train_batch_size: " +
                       std::to_string(options.batch) + "}\n";
  if (kind == "grpo")
    recipe += "rewards: [{type: format, pattern: a, match: search}]\nrollout: {num_generations: " +
              std::to_string(options.generations) + ", max_completion_length: " + new_tokens +
              ", min_completion_length: " + new_tokens + "}\n";
  return recipe;
}

/// Trains on random rows in a folder of its own and reads the times from metrics.jsonl.
BenchResult run_trainer(const std::string& kind, const BenchOptions& options) {
  const auto folder = fs::temp_directory_path() / ("meed-bench-" + std::to_string(::getpid()));
  fs::create_directories(folder);
  {
    RandomTexts text(options.model);
    std::ofstream rows(folder / "rows.jsonl");
    for (int64_t i = 0; i < options.batch * (options.steps + 2); ++i)
      rows << make_row(kind, options, text).dump(-1, ' ', false, Json::error_handler_t::replace)
           << '\n';
  }
  const auto recipe =
      Recipe::from_node(ConfigNode::parse_string(make_recipe(kind, options, folder), "bench"));
  const double before = seconds_since_start();
  run_recipe(recipe, {});
  BenchResult result;
  std::ifstream metrics(folder / "run" / "metrics.jsonl");
  std::string line;
  while (std::getline(metrics, line)) {
    const auto json = Json::parse(line);
    if (!json.contains("step_time")) continue;
    const double seconds = json["step_time"].get<double>();
    if (result.start_to_first_step_s == 0.0) {
      result.start_to_first_step_s = before + json.value("elapsed_s", seconds) - seconds;
      if (options.steps > 1) continue;  // the first step is the warm-up
    }
    result.all_s.push_back(seconds);
  }
  fs::remove_all(folder);
  result.tokens =
      static_cast<double>(options.batch * (kind == "grpo" ? options.new_tokens : options.tokens));
  result.extra = {{"batch", static_cast<double>(options.batch)},
                  {"tokens", static_cast<double>(options.tokens)},
                  {"new_tokens", static_cast<double>(options.new_tokens)}};
  return result;
}

bool add_trainer(const std::string& kind, const std::string& help) {
  return add_bench(
      {kind, help, [kind](const BenchOptions& options) { return run_trainer(kind, options); }});
}

const bool sft = add_trainer("sft", "Steps of supervised fine-tuning on random texts");
const bool reward = add_trainer("reward", "Steps of reward modelling on random pairs");
const bool dpo = add_trainer("dpo", "Steps of DPO on random pairs");
const bool grpo =
    add_trainer("grpo", "Steps of GRPO on random prompts, completions of full length");

}  // namespace
}  // namespace meed::cli
