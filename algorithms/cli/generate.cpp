#include <memory>

#include "algorithms/cli/command.h"
#include "algorithms/cli/content.h"
#include "algorithms/policy.h"
#include "libpolicy/core/error.h"
#include "libpolicy/core/metrics.h"
#include "libpolicy/core/random.h"
#include "libpolicy/core/run_context.h"
#include "libpolicy/distributed/communicator.h"
#include "libpolicy/generation/rollout_engine.h"
#include "libpolicy/text/chat_template.h"
#include "libreward/decoding.h"
#include "libreward/reward_function.h"

namespace meed::cli {
namespace {

struct Options {
  RowOptions rows;
  std::string model, dtype = "float32";
  SamplingParams sampling;
  std::string reward_model, choose = "best";
  int64_t n = 1, seed = 0, batch_size = 64;
  bool greedy = false, parse_special = false;
};

std::vector<int64_t> prompt_ids(const Row& row, const Options& options,
                                const Tokenizer* tokenizer) {
  if (row.json.contains("ids")) {
    std::vector<int64_t> ids;
    for (const auto& id : row.json["ids"]) {
      if (!id.is_number_integer()) throw DataError(row.where + ": \"ids\": expected integers");
      ids.push_back(id.get<int64_t>());
    }
    return ids;
  }
  if (tokenizer == nullptr)
    throw DataError(row.where + ": the model has no tokenizer; give \"ids\"");
  auto content = content_of(row, row.json.contains("messages") ? "messages" : "prompt");
  if (content.empty())
    throw DataError(row.where + ": expected \"prompt\", \"messages\" or \"ids\"");
  if (!content.conversational && options.parse_special)
    return tokenizer->encode(content.text, {.parse_special = true, .add_special_tokens = true});
  return encode_prompt(*tokenizer, content);
}

nlohmann::ordered_json to_json(const Completion& completion) {
  return {{"text", completion.text},
          {"ids", completion.token_ids},
          {"logprobs", completion.logprobs},
          {"finish_reason", to_string(completion.finish_reason)}};
}

class Generator {
 public:
  explicit Generator(const Options& options)
      : options_(options),
        model_(CausalLm::load(options.model, {.dtype = parse_dtype(options.dtype)})) {
    try {
      tokenizer_ = Tokenizer::load(options.model);
    } catch (const DataError&) {
      if (!options.sampling.stop_strings.empty()) throw;  // rows with ids need none
    }
    if (!options.reward_model.empty()) {
      const auto node = ConfigNode::parse_string("{type: reward_model}", "--reward-model")
                            .with_default("path", options.reward_model);
      reward_ = reward_functions().create(node, context_);
    }
    engine_ =
        RolloutEngine::create(*model_, tokenizer_.get(), {.max_batch_size = options.batch_size});
  }

  std::vector<nlohmann::ordered_json> operator()(std::vector<Row>& rows) {
    std::vector<GenerationRequest> requests;
    std::vector<Content> contents;
    for (const auto& row : rows) {
      if (reward_)
        contents.push_back(content_of(row, row.json.contains("messages") ? "messages" : "prompt"));
      GenerationRequest request{.id = static_cast<int64_t>(requests.size()),
                                .prompt_ids = prompt_ids(row, options_, tokenizer_.get()),
                                .sampling = options_.sampling};
      if (options_.greedy) request.sampling.temperature = 0.0;
      const auto seed = row.json.contains("seed") && row.json["seed"].is_number_integer()
                            ? row.json["seed"].get<uint64_t>()
                            : mix_seed({static_cast<uint64_t>(options_.seed), num_rows_});
      ++num_rows_;
      for (int64_t g = 0; g < options_.n; ++g)
        request.seeds.push_back(mix_seed({seed, static_cast<uint64_t>(g)}));
      requests.push_back(std::move(request));
    }
    auto finished = engine_->generate(std::move(requests));
    std::vector<nlohmann::ordered_json> results;
    for (size_t i = 0; i < rows.size(); ++i) {
      auto result = std::move(rows[i].json);
      result["completions"] = nlohmann::ordered_json::array();
      for (const auto& completion : finished[i].completions)
        result["completions"].push_back(to_json(completion));
      if (reward_) choose(contents[i], finished[i].completions, result);
      results.push_back(std::move(result));
    }
    return results;
  }

 private:
  /// Adds the completions' rewards and the index of the one that decoding by reward gives.
  void choose(const Content& prompt, const std::vector<Completion>& completions,
              nlohmann::ordered_json& result) {
    RolloutGroup group;
    group.example.prompt = prompt;
    group.completions = completions;
    const auto scores = reward_->score({&group, 1})[0];
    std::vector<double> rewards;
    std::vector<std::string> texts;
    for (size_t i = 0; i < completions.size(); ++i) {
      rewards.push_back(scores[i].value);
      texts.push_back(completions[i].text);
      result["completions"][i]["reward"] = rewards.back();
    }
    const auto weights = options_.choose == "majority_vote" ? std::vector<double>(rewards.size(), 1)
                                                            : vote_weights(rewards, 1.0);
    const auto chosen = options_.choose == "best" ? best_of_n(rewards) : vote(texts, weights);
    result["chosen"] = chosen.value_or(0);
  }

  const Options& options_;
  std::unique_ptr<CausalLm> model_;
  std::unique_ptr<Tokenizer> tokenizer_;
  std::unique_ptr<RolloutEngine> engine_;
  std::unique_ptr<Communicator> comm_ = Communicator::create({}, at::kCPU, "single");
  NullMetrics metrics_;
  RunContext context_{.comm = *comm_, .metrics = metrics_};
  std::unique_ptr<RewardFunction> reward_;
  uint64_t num_rows_ = 0;
};

void setup(CLI::App& app) {
  auto options = std::make_shared<Options>();
  app.add_option("--model", options->model, "Hugging Face folder or .gguf file")->required();
  app.add_option("--dtype", options->dtype, "What it computes in")
      ->check(CLI::IsMember({"float32", "bfloat16"}))
      ->capture_default_str();
  auto& sampling = options->sampling;
  app.add_option("--max-new-tokens", sampling.max_new_tokens, "Tokens of a completion at most")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--temperature", sampling.temperature, "0 is greedy")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  app.add_option("--top-k", sampling.top_k, "0: all tokens")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  app.add_option("--top-p", sampling.top_p, "Nucleus sampling")
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str();
  app.add_option("--min-p", sampling.min_p,
                 "Leave out tokens less likely than this times the likeliest")
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str();
  app.add_option("--repetition-penalty", sampling.repetition_penalty,
                 "Divides the score of tokens that stand already")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--n", options->n, "Completions of each row")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--seed", options->seed, "Seed; a row's own \"seed\" comes before it")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  app.add_option("--stop", sampling.stop_strings,
                 "A string that ends a completion; may be given again");
  app.add_option("--batch-size", options->batch_size, "Sequences decoded at the same time")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option(
      "--reward-model", options->reward_model,
      "Folder of a reward model that scores the completions of each row and chooses one: "
      "\"chosen\" is its index");
  app.add_option("--choose", options->choose,
                 "With a reward model: the best, or a vote over the answers, of equal weights or "
                 "weighted by exp(reward)")
      ->check(CLI::IsMember({"best", "majority_vote", "weighted_vote"}))
      ->capture_default_str();
  app.add_flag("--greedy", options->greedy, "The likeliest token at every step");
  app.add_flag("--parse-special", options->parse_special,
               "Special tokens written in a \"prompt\" count");
  options->rows.add_to(app);
  app.callback([options] {
    Generator generator(*options);
    constexpr size_t kRows = 256;
    for_each_rows(options->rows, kRows, [&](std::vector<Row>& rows) { return generator(rows); });
  });
}

const bool registered =
    add_command({"generate", "Completions of prompts and conversations", setup});

}  // namespace
}  // namespace meed::cli
