#include "algorithms/evaluation.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>

#include "algorithms/offline_trainer.h"
#include "algorithms/policy.h"
#include "algorithms/rollout_sampler.h"
#include "libpolicy/core/error.h"
#include "libpolicy/core/random.h"
#include "libpolicy/data/dataset.h"
#include "libpolicy/models/token_logprobs.h"
#include "libpolicy/text/chat_template.h"
#include "libreward/reward_pipeline.h"

namespace meed {

Registry<Evaluation>& evaluations() {
  static Registry<Evaluation> registry("evaluation");
  return registry;
}

void EvaluationRecipe::fields(FieldVisitor& v) {
  v.component("evaluation", evaluation, evaluations(), "What is measured.");
  v.required("evaluation");
  v.field("models", models, "Hugging Face folders or .gguf files to compare.");
  v.required("models");
  v.component("data", data, datasets(), "What it is measured on.");
  v.required("data");
  v.components("rewards", rewards, reward_functions(),
               "Reward functions that score completions (generation).");
  v.section("rollout", rollout,
            "How completions are sampled (generation): num_generations_eval, temperature_eval, "
            "max_completion_length.");
  v.field("output_dir", output_dir, "Folder that results.json goes to.");
  v.required("output_dir");
  v.field("seed", seed, "Seed of sampling.");
  v.choice("dtype", dtype, {"float32", "bfloat16"}, "What the models compute in.");
  v.field("max_tokens_per_micro_batch", max_tokens_per_micro_batch, "Tokens of one forward pass.");
  v.require(max_tokens_per_micro_batch > 0, "max_tokens_per_micro_batch", "must be positive");
  v.require(seed >= 0, "seed", "must not be negative");
}

EvaluationRecipe EvaluationRecipe::load(const std::filesystem::path& path,
                                        const std::vector<std::string>& overrides) {
  return read_config<EvaluationRecipe>(ConfigNode::parse_file(path).with_overrides(overrides),
                                       /*has_type=*/false);
}

namespace {

/// Standard error of a mean whose values come in clusters (pairs of one prompt are not
/// independent): root of the sum over clusters of squared sums of deviations, by n, with G / (G -
/// 1).
double clustered_error(const std::vector<double>& values, const std::vector<size_t>& cluster_of) {
  double mean = 0.0;
  for (const double value : values) mean += value;
  mean /= static_cast<double>(values.size());
  std::map<size_t, double> sums;
  for (size_t i = 0; i < values.size(); ++i) sums[cluster_of[i]] += values[i] - mean;
  const auto G = static_cast<double>(sums.size());
  if (sums.size() < 2) return 0.0;
  double squares = 0.0;
  for (const auto& [cluster, sum] : sums) squares += sum * sum;
  return std::sqrt(squares * G / (G - 1.0)) / static_cast<double>(values.size());
}

}  // namespace

EvaluationResult clustered_mean(const std::string& model, const std::string& metric,
                                const std::vector<double>& values,
                                const std::vector<size_t>& cluster_of) {
  double mean = 0.0;
  for (const double value : values) mean += value / static_cast<double>(values.size());
  const double half = kZ95 * clustered_error(values, cluster_of);
  return {model, metric, mean, mean - half, mean + half, static_cast<int64_t>(values.size())};
}

EvaluationResult clustered_share(const std::string& model, const std::string& metric,
                                 const std::vector<double>& right,
                                 const std::vector<size_t>& cluster_of) {
  const auto plain = clustered_mean(model, metric, right, cluster_of);
  const double error = clustered_error(right, cluster_of), p = plain.value;
  auto n = static_cast<double>(right.size());
  if (error > 0.0) n = std::min(n, p * (1.0 - p) / (error * error));
  const double z2 = kZ95 * kZ95, centre = (p + z2 / (2 * n)) / (1 + z2 / n);
  const double half = kZ95 * std::sqrt(p * (1 - p) / n + z2 / (4 * n * n)) / (1 + z2 / n);
  return {model, metric, p, centre - half, centre + half, plain.count};
}

std::vector<double> paired_differences(std::vector<double> values,
                                       const std::vector<double>& of_first) {
  for (size_t i = 0; i < values.size(); ++i) values[i] -= of_first[i];
  return values;
}

EvaluationResult summarise_mean(const std::string& model, const std::string& metric,
                                const std::vector<double>& values) {
  const auto count = static_cast<double>(values.size());
  if (values.empty()) return {model, metric, std::nan(""), std::nan(""), std::nan(""), 0};
  const double mean = std::accumulate(values.begin(), values.end(), 0.0) / count;
  double squares = 0.0;
  for (const double value : values) squares += (value - mean) * (value - mean);
  const double error = count > 1 ? kZ95 * std::sqrt(squares / (count - 1) / count) : 0.0;
  return {model, metric, mean, mean - error, mean + error, static_cast<int64_t>(values.size())};
}

EvaluationResult summarise_share(const std::string& model, const std::string& metric,
                                 int64_t successes, int64_t count) {
  if (count == 0) return {model, metric, std::nan(""), std::nan(""), std::nan(""), 0};
  const auto n = static_cast<double>(count);
  const double share = static_cast<double>(successes) / n;
  const double z2 = kZ95 * kZ95;
  const double centre = (share + z2 / (2 * n)) / (1 + z2 / n);
  const double half = kZ95 * std::sqrt(share * (1 - share) / n + z2 / (4 * n * n)) / (1 + z2 / n);
  return {model, metric, share, centre - half, centre + half, count};
}

namespace {

std::vector<int64_t> all_rows(const Dataset& data) {
  std::vector<int64_t> rows(static_cast<size_t>(data.size()));
  std::iota(rows.begin(), rows.end(), 0);
  return rows;
}

}  // namespace

void for_each_model(const EvaluationRecipe& recipe, RunContext& context,
                    const std::function<void(const std::string&, const std::vector<RolloutGroup>&,
                                             const PipelineScores&)>& measure) {
  const auto data = datasets().create(*recipe.data, context);
  for (const auto& path : recipe.models) {
    const auto tokenizer = Tokenizer::load(path);
    context.tokenizer = tokenizer.get();
    const auto model = CausalLm::load(path, {.dtype = parse_dtype(recipe.dtype)});
    const auto engine = RolloutEngine::create(*model, tokenizer.get(),
                                              {.max_batch_size = recipe.rollout.max_batch_size});
    const auto environment = recipe.rollout.environment
                                 ? environments().create(*recipe.rollout.environment, context)
                                 : nullptr;
    const auto groups = generate_groups(*engine, *tokenizer, *data, all_rows(*data),
                                        {.rollout = recipe.rollout,
                                         .num_generations = recipe.rollout.num_generations_eval,
                                         .temperature = recipe.rollout.temperature_eval,
                                         .seed = static_cast<uint64_t>(recipe.seed),
                                         .max_positions = model->config().max_positions,
                                         .environment = environment.get()});
    RewardPipeline rewards(recipe.rewards, context);
    measure(path, groups, rewards.score(groups));
    context.tokenizer = nullptr;
  }
}

namespace {

/// Completions of every prompt, scored by the recipe's rewards; models after the first also by the
/// paired difference from it.
class GenerationEvaluation final : public Evaluation {
 public:
  struct Config {
    void fields(FieldVisitor&) {}
  };
  explicit GenerationEvaluation(const Config&) {}

  std::vector<EvaluationResult> run(const EvaluationRecipe& recipe, RunContext& context) override {
    if (recipe.rewards.empty())
      throw ConfigError("rewards: the generation evaluation needs at least one reward function");
    std::vector<EvaluationResult> results;
    std::map<std::string, std::vector<double>> first;
    for_each_model(recipe, context,
                   [&](const std::string& path, const std::vector<RolloutGroup>&,
                       const PipelineScores& scored) {
                     const auto measure = [&](const std::string& metric,
                                              const at::Tensor& values_PG) {
                       const auto values_P = row_means(values_PG);
                       results.push_back(summarise_mean(path, metric, finite(values_P)));
                       const auto [of_first, is_first] = first.emplace(metric, values_P);
                       if (is_first) return;
                       results.push_back(
                           summarise_mean(path, metric + " less that of " + recipe.models[0],
                                          finite(paired_differences(values_P, of_first->second))));
                     };
                     measure("reward", scored.rewards_PG);
                     for (const auto& [name, values_PG] : scored.components)
                       measure("rewards/" + name, values_PG);
                   });
    return results;
  }

 private:
  /// Rows are the independent units: a row's value is the mean over its completions.
  static std::vector<double> row_means(const at::Tensor& values_PG) {
    const auto means_P = values_PG.nanmean(1).to(at::kDouble).contiguous();
    const auto* begin = means_P.const_data_ptr<double>();
    return {begin, begin + means_P.numel()};
  }

  static std::vector<double> finite(std::vector<double> values) {
    std::erase_if(values, [](double value) { return !std::isfinite(value); });
    return values;
  }
};

/// Mean negative log-likelihood of the completions (or of whole texts) and its perplexity.
class LanguageModelLoss final : public Evaluation {
 public:
  struct Config {
    int64_t max_length = 1024;
    void fields(FieldVisitor& v) {
      v.field("max_length", max_length, "Longer rows lose their end.");
      v.require(max_length > 1, "max_length", "must be at least 2");
    }
  };
  explicit LanguageModelLoss(const Config& config) : config_(config) {}

  std::vector<EvaluationResult> run(const EvaluationRecipe& recipe, RunContext& context) override {
    at::NoGradGuard no_grad;
    std::vector<EvaluationResult> results;
    const auto data = datasets().create(*recipe.data, context);
    for (const auto& path : recipe.models) {
      const auto tokenizer = Tokenizer::load(path);
      const auto model = CausalLm::load(path, {.dtype = parse_dtype(recipe.dtype)});
      double total = 0.0;
      int64_t tokens = 0;
      std::vector<double> rows;
      for (const int64_t index : all_rows(*data)) {
        const auto logprobs = row_logprobs(*model, *tokenizer, data->get(index));
        if (logprobs.numel() == 0) continue;
        rows.push_back(-logprobs.mean().item<double>());
        total -= logprobs.sum().item<double>();
        tokens += logprobs.numel();
      }
      const double loss = tokens > 0 ? total / static_cast<double>(tokens) : std::nan("");
      auto by_row = summarise_mean(path, "loss", rows);
      const double half = (by_row.high - by_row.low) / 2;
      results.push_back({path, "loss", loss, loss - half, loss + half, tokens});
      results.push_back({path, "perplexity", std::exp(loss), std::exp(loss - half),
                         std::exp(loss + half), tokens});
    }
    return results;
  }

 private:
  at::Tensor row_logprobs(CausalLm& model, const Tokenizer& tokenizer,
                          const Example& example) const {
    EncodedRow row;
    if (!example.completion.empty()) {
      auto pair = encode_pair(tokenizer, example.prompt, example.completion);
      row = {.prompt_ids = std::move(pair.prompt_ids),
             .completion_ids = {std::move(pair.completion_ids)},
             .margin = {}};
    } else {
      row.completion_ids.push_back(encode_text(tokenizer, example.text));
    }
    truncate(row, config_.max_length, /*keep_start=*/true);
    auto ids = row.prompt_ids;
    ids.insert(ids.end(), row.completion_ids[0].begin(), row.completion_ids[0].end());
    const auto first = std::max<int64_t>(1, static_cast<int64_t>(row.prompt_ids.size()));
    if (static_cast<int64_t>(ids.size()) <= first) return at::empty({0});
    PackedBatchBuilder builder;
    builder.add(ids);
    return token_logprobs(model, builder.build(),
                          at::arange(first, static_cast<int64_t>(ids.size()), at::kLong))
        .logprobs_M;
  }
  Config config_;
};

MEED_REGISTER(evaluations, "generation", GenerationEvaluation,
              "Completions of every prompt, scored by the reward functions.");
MEED_REGISTER(evaluations, "language_model_loss", LanguageModelLoss,
              "Negative log-likelihood and perplexity of completions or texts.");

}  // namespace
}  // namespace meed
