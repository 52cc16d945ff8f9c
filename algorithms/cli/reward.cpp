#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <memory>

#include "algorithms/cli/command.h"
#include "algorithms/cli/content.h"
#include "algorithms/recipe.h"
#include "libpolicy/core/error.h"
#include "libpolicy/core/metrics.h"
#include "libpolicy/data/dataset.h"
#include "libpolicy/distributed/communicator.h"
#include "libpolicy/losses/advantages.h"
#include "libpolicy/text/tokenizer.h"
#include "libreward/reward_pipeline.h"

namespace meed::cli {
namespace {

struct Options {
  RowOptions rows;
  std::string config, model;
  std::vector<std::string> overrides;
  bool demo = false;
};

/// What the command takes of a file: a whole training recipe, or one with nothing but these.
struct RewardRecipe {
  std::vector<ConfigNode> rewards;
  std::string scale_rewards = "group";
  int64_t seed = 42;
  void fields(FieldVisitor& v) {
    v.components("rewards", rewards, reward_functions(), "Reward functions, added up by weight.");
    v.required("rewards");
    v.choice("scale_rewards", scale_rewards, {"group", "batch", "none"},
             "What advantages are divided by.");
    v.field("seed", seed, "Seed of rewards that draw numbers.");
    v.require(seed >= 0, "seed", "must not be negative");
  }

  static RewardRecipe load(const std::string& path, const std::vector<std::string>& overrides) {
    const auto node = ConfigNode::parse_file(path).with_overrides(overrides);
    if (!node.has("algorithm")) return read_config<RewardRecipe>(node, /*has_type=*/false);
    const auto recipe = Recipe::from_node(node);
    if (recipe.rewards.empty())
      throw ConfigError(path + ": rewards: the recipe has none; nothing to score with");
    RewardRecipe result{.rewards = recipe.rewards, .seed = recipe.run.seed};
    if (recipe.algorithm && recipe.algorithm->has("scale_rewards"))
      result.scale_rewards = recipe.algorithm->at("scale_rewards").as_string();
    return result;
  }
};

/// "completions": texts, lists of messages, or what `meed generate` writes ({"text", "ids", ...}).
Completion completion_of(const Row& row, const nlohmann::ordered_json& value,
                         const Tokenizer* tokenizer) {
  Completion completion;
  if (value.is_string() || value.is_array()) {
    const auto content = content_of(value, row, "completions");
    completion.text = content.text;
    for (const auto& message : content.messages) {
      if (message.content.empty() && !message.json.empty())
        throw DataError(row.where + ": \"completions\": a message has no \"content\" to score");
      completion.text += (completion.text.empty() ? "" : "\n") + message.content;
    }
  } else if (value.is_object() && value.contains("text") && value["text"].is_string()) {
    completion.text = value["text"].get<std::string>();
    if (value.contains("ids") && value["ids"].is_array())
      for (const auto& id : value["ids"]) {
        if (!id.is_number_integer())
          throw DataError(row.where + ": \"completions\": \"ids\" must be whole numbers");
        completion.token_ids.push_back(id.get<int64_t>());
      }
    if (value.value("finish_reason", "stop") == "length")
      completion.finish_reason = FinishReason::kLength;
  } else {
    throw DataError(
        row.where +
        ": \"completions\": expected texts, lists of messages, or objects with a \"text\"");
  }
  if (completion.token_ids.empty() && tokenizer != nullptr)
    completion.token_ids = tokenizer->encode(completion.text);
  return completion;
}

RolloutGroup group_of(const Row& row, const Tokenizer* tokenizer) {
  RolloutGroup group;
  group.example.prompt = content_of(row, "prompt");
  for (const auto& [key, value] : row.json.items())
    if (key != "prompt" && key != "completions")
      group.example.extra[key] = value.is_string() ? value.get<std::string>() : value.dump();
  if (!row.json.contains("completions") || !row.json["completions"].is_array())
    throw DataError(row.where + ": \"completions\": expected a list");
  for (const auto& value : row.json["completions"])
    group.completions.push_back(completion_of(row, value, tokenizer));
  if (group.completions.empty()) throw DataError(row.where + ": \"completions\" is empty");
  return group;
}

std::vector<double> numbers(const at::Tensor& values) {
  const auto flat = values.to(at::kDouble).contiguous();
  return {flat.data_ptr<double>(), flat.data_ptr<double>() + flat.numel()};
}

class RewardCommand {
 public:
  explicit RewardCommand(const Options& options)
      : recipe_(RewardRecipe::load(options.config, options.overrides)),
        tokenizer_(options.model.empty() ? nullptr : Tokenizer::load(options.model)),
        comm_(Communicator::create({}, at::kCPU, "single")),
        context_{.comm = *comm_,
                 .metrics = metrics_,
                 .seed = static_cast<uint64_t>(recipe_.seed),
                 .tokenizer = tokenizer_.get()},
        pipeline_(recipe_.rewards, context_) {}

  RunContext& context() { return context_; }

  std::vector<nlohmann::ordered_json> score(const std::vector<Row>& rows) {
    at::NoGradGuard no_grad;
    std::map<size_t, std::vector<size_t>> by_size;
    std::vector<RolloutGroup> groups;
    for (size_t i = 0; i < rows.size(); ++i) {
      groups.push_back(group_of(rows[i], tokenizer_.get()));
      groups.back().example.row = static_cast<int64_t>(i);
      by_size[groups.back().completions.size()].push_back(i);
    }
    std::vector<nlohmann::ordered_json> results(rows.size());
    for (const auto& [size, places] : by_size) {
      std::vector<RolloutGroup> same;
      for (const size_t place : places) same.push_back(std::move(groups[place]));
      const auto scores = pipeline_.score(same);
      const auto advantages = group_advantages(scores.rewards_PG, recipe_.scale_rewards, *comm_);
      for (size_t p = 0; p < places.size(); ++p) {
        const auto at = static_cast<int64_t>(p);
        auto& result = results[places[p]];
        result = rows[places[p]].json;
        result["rewards"] = numbers(scores.rewards_PG[at]);
        result["components"] = nlohmann::ordered_json::object();
        for (const auto& [name, values] : scores.components)
          result["components"][name] = numbers(values[at]);
        result["transformed"] = nlohmann::ordered_json::object();
        for (const auto& [name, values] : scores.transformed)
          result["transformed"][name] = numbers(values[at]);
        result["advantages"] = numbers(advantages[at]);
        for (const auto& [name, values] : scores.parts) result["parts"][name] = numbers(values[at]);
        for (const auto& [name, found] : scores.unreadable)
          for (const auto& [group, completion] : found)
            if (group == at) result["unreadable"][name].push_back(completion);
        if (!scores.steps_PGS.empty()) result["steps"] = scores.steps_PGS[p];
      }
    }
    return results;
  }

 private:
  RewardRecipe recipe_;
  std::unique_ptr<Tokenizer> tokenizer_;
  std::unique_ptr<Communicator> comm_;
  NullMetrics metrics_;
  RunContext context_;
  RewardPipeline pipeline_;
};

/// Rows to look at a pipeline with: problems in words, each with answers of several qualities.
std::vector<Row> demo_rows(RunContext& context) {
  const auto data = datasets().create(
      ConfigNode::parse_string("{type: arithmetic, num_rows: 3, seed: 7}", "demo"), context);
  std::vector<Row> rows;
  for (int64_t i = 0; i < data->size(); ++i) {
    const auto example = data->get(i);
    const auto& answer = example.extra.at("answer");
    Row row{.json = {}, .where = "demo:" + std::to_string(i + 1)};
    row.json["prompt"] = nlohmann::ordered_json::array();
    for (const auto& message : example.prompt.messages)
      row.json["prompt"].push_back({{"role", message.role}, {"content", message.content}});
    row.json["answer"] = answer;
    row.json["completions"] = {"#### " + answer, "The answer is " + answer + ".",
                               "#### " + answer + "7", "I do not know.", ""};
    rows.push_back(std::move(row));
  }
  return rows;
}

void setup(CLI::App& app) {
  auto options = std::make_shared<Options>();
  app.add_option("CONFIG", options->config,
                 "Recipe whose rewards are taken, or a file with nothing but `rewards:`")
      ->required();
  app.add_option("overrides", options->overrides, "Settings key=value");
  app.add_option("--model", options->model,
                 "Tokenizer that counts tokens of completions that come without ids");
  app.add_flag("--demo", options->demo, "Score generated rows instead of the input");
  options->rows.add_to(app);
  app.callback([options] {
    RewardCommand command(*options);
    constexpr size_t kBatchRows = 1024;
    if (options->demo)
      write_rows(options->rows, command.score(demo_rows(command.context())));
    else
      for_each_rows(options->rows, kBatchRows,
                    [&](std::vector<Row>& rows) { return command.score(rows); });
  });
}

const bool registered =
    add_command({"reward", "Rewards and advantages of given completions by a recipe", setup});

}  // namespace
}  // namespace meed::cli
