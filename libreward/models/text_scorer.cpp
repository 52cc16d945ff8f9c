#include "libreward/models/text_scorer.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "libpolicy/core/error.h"
#include "libpolicy/core/files.h"
#include "libpolicy/text/tokenizer.h"
#include "libreward/functions/ensemble.h"
#include "libreward/losses/process.h"
#include "libreward/models/critique_model.h"
#include "libreward/models/reward_model.h"

namespace meed {
namespace {

using Json = nlohmann::ordered_json;

double sigmoid(double x) { return 1.0 / (1.0 + std::exp(-x)); }

/// A backbone with a head.
class ModelScorer final : public TextScorer {
 public:
  ModelScorer(const std::filesystem::path& path, const Options& options)
      : options_(options),
        own_tokenizer_(Tokenizer::load(path)),
        own_model_(RewardModel::load(path, {.dtype = options.dtype})),
        tokenizer_(own_tokenizer_.get()),
        model_(own_model_.get()) {}
  ModelScorer(RewardModel& model, const Tokenizer& tokenizer, const Options& options)
      : options_(options), tokenizer_(&tokenizer), model_(&model) {}

  std::vector<Score> score(std::span<const Text> texts) override {
    std::vector<Score> scores;
    for_each_batch(texts, 1, [&](const HeadOutput& output, std::span<const RewardText> encoded) {
      read_scores(output, encoded, scores);
    });
    return scores;
  }

  std::vector<Comparison> compare(std::span<const Text> pairs) override {
    std::vector<Comparison> results;
    for_each_batch(pairs, 2, [&](const HeadOutput& output, std::span<const RewardText> encoded) {
      std::vector<Score> scores;
      read_scores(output, encoded, scores);
      const bool steps = model_->format().pooling == "steps";
      const auto logits_B =
          steps
              ? at::Tensor()
              : model_->head().preference(every(output, 0, 2), every(output, 1, 2)).to(at::kDouble);
      for (size_t i = 0; i + 1 < scores.size(); i += 2)
        results.push_back({steps ? scores[i].value - scores[i + 1].value
                                 : logits_B[static_cast<int64_t>(i / 2)].item<double>(),
                           std::move(scores[i]), std::move(scores[i + 1])});
    });
    return results;
  }

 private:
  RewardText encode(const Text& text) const {
    auto encoded = encode_reward_text(*tokenizer_, model_->format(), model_->reader(),
                                      *text.example, text.completion);
    auto limit = options_.max_length > 0 ? options_.max_length : INT64_MAX;
    limit = std::min(limit, model_->max_length().value_or(limit));
    truncate_reward_text(encoded, limit);
    if (encoded.prompt_ids.empty() && encoded.completion_ids.empty())
      throw DataError("row " + std::to_string(text.example->row + 1) +
                      ": a text to score has no tokens");
    return encoded;
  }

  /// Batches of whole units of `unit` texts, at most max_tokens_per_micro_batch tokens each.
  template <typename Visit>
  void for_each_batch(std::span<const Text> texts, size_t unit, const Visit& visit) {
    at::NoGradGuard no_grad;
    std::vector<RewardText> batch;
    int64_t tokens = 0;
    const auto flush = [&] {
      if (batch.empty()) return;
      const std::span<const RewardText> encoded = batch;
      visit(model_->forward(encoded), encoded);
      batch.clear();
      tokens = 0;
    };
    for (size_t i = 0; i < texts.size(); ++i) {
      batch.push_back(encode(texts[i]));
      tokens +=
          static_cast<int64_t>(batch.back().prompt_ids.size() + batch.back().completion_ids.size());
      if (tokens >= options_.max_tokens_per_micro_batch && (i + 1) % unit == 0) flush();
    }
    flush();
  }

  void read_scores(const HeadOutput& output, std::span<const RewardText> texts,
                   std::vector<Score>& scores) const {
    const auto rewards_B = output.rewards_B.to(at::kDouble);
    if (model_->format().pooling == "steps") return read_steps(rewards_B, texts, scores);
    const auto names = model_->head().output_names(), gates = model_->head().gate_names();
    for (size_t i = 0; i < texts.size(); ++i) {
      const auto row = static_cast<int64_t>(i);
      Score score{.value = rewards_B[row].item<double>()};
      if (model_->format().probability) score.value = sigmoid(score.value);
      for (size_t k = 0; k < names.size(); ++k)
        score.parts[names[k]] = output.outputs_BK[row][static_cast<int64_t>(k)].item<double>();
      if (output.log_gates_BK.defined())
        for (size_t k = 0; k < gates.size(); ++k)
          score.parts["gate/" + gates[k]] =
              std::exp(output.log_gates_BK[row][static_cast<int64_t>(k)].item<double>());
      scores.push_back(std::move(score));
    }
  }

  void read_steps(const at::Tensor& logits_S, std::span<const RewardText> texts,
                  std::vector<Score>& scores) const {
    int64_t step = 0;
    for (const auto& text : texts) {
      Score score;
      for (size_t i = 0; i < text.step_ends.size(); ++i)
        score.step_values.push_back(sigmoid(logits_S[step++].item<double>()));
      score.value = aggregate_steps(score.step_values, model_->format().step_aggregate);
      score.value_in_steps = true;
      if (score.step_values.empty()) score.unreadable = "no_steps";
      scores.push_back(std::move(score));
    }
  }

  Options options_;
  std::unique_ptr<Tokenizer> own_tokenizer_;
  std::unique_ptr<RewardModel> own_model_;
  const Tokenizer* tokenizer_;
  RewardModel* model_;
};

Json read_json(const std::filesystem::path& file) {
  auto json = Json::parse(read_file(file), nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) throw DataError(file.string() + ": not a JSON object");
  return json;
}

/// Members in one folder, each with a tokenizer of its own. `value` is their aggregate, the part
/// "disagreement" their population deviation.
class EnsembleScorer final : public TextScorer {
 public:
  EnsembleScorer(const std::filesystem::path& path, const Options& options) {
    const auto file = path / "meed.json";
    try {
      const auto json = read_json(file);
      aggregate_ = json.value("aggregate", "mean");
      std_coef_ = json.value("std_coef", 0.5);
      weights_ = json.value("member_weights", std::vector<double>{});
    } catch (const Json::exception& e) {
      throw DataError(file.string() + ": " + e.what());
    }
    if (!options.aggregate.empty()) aggregate_ = options.aggregate;
    const auto known = {"mean", "median", "min", "mean_minus_std", "weighted"};
    if (std::find(known.begin(), known.end(), aggregate_) == known.end())
      throw DataError(file.string() + ": unknown aggregate \"" + aggregate_ + "\"");
    auto member_options = options;
    member_options.aggregate.clear();
    for (const auto& name : ensemble_members(path)) {
      try {
        members_.push_back(TextScorer::load(path / name, member_options));
      } catch (const DataError& e) {
        throw DataError(file.string() + ": member \"" + name + "\" cannot be read: " + e.what());
      }
    }
    if (aggregate_ == "weighted" && weights_.size() != members_.size())
      throw DataError(file.string() + ": \"member_weights\" must hold a number for each of the " +
                      std::to_string(members_.size()) + " members");
  }

  std::vector<Score> score(std::span<const Text> texts) override {
    const auto M = static_cast<int64_t>(members_.size()), N = static_cast<int64_t>(texts.size());
    if (N == 0) return {};
    auto rewards_MN = at::zeros({M, N}, at::kDouble);
    for (int64_t m = 0; m < M; ++m) {
      const auto scores = members_[static_cast<size_t>(m)]->score(texts);
      for (int64_t n = 0; n < N; ++n) rewards_MN[m][n] = scores[static_cast<size_t>(n)].value;
    }
    const auto values_N = aggregate_members(rewards_MN, aggregate_, std_coef_, weights_);
    const auto spread_N = rewards_MN.std(/*dim=*/0, /*unbiased=*/false);
    std::vector<Score> results;
    for (int64_t n = 0; n < N; ++n) {
      Score score{.value = values_N[n].item<double>()};
      score.parts["disagreement"] = spread_N[n].item<double>();
      for (int64_t m = 0; m < M; ++m)
        score.parts["member_" + std::to_string(m)] = rewards_MN[m][n].item<double>();
      results.push_back(std::move(score));
    }
    return results;
  }

 private:
  std::vector<std::unique_ptr<TextScorer>> members_;
  std::string aggregate_;
  double std_coef_ = 0.5;
  std::vector<double> weights_;
};

}  // namespace

std::vector<std::string> ensemble_members(const std::filesystem::path& path) {
  const auto file = path / "meed.json";
  if (!std::filesystem::is_directory(path) || !std::filesystem::exists(file)) return {};
  const auto json = read_json(file);
  if (!json.contains("ensemble")) return {};
  const auto& members = json["ensemble"];
  std::vector<std::string> names;
  if (members.is_array())
    for (const auto& each : members)
      if (each.is_string()) names.push_back(each.get<std::string>());
  if (names.empty() || names.size() != members.size())
    throw DataError(file.string() + ": \"ensemble\" must be a list of folder names, not empty");
  return names;
}

void write_ensemble(const std::filesystem::path& path, const std::vector<std::string>& members,
                    const std::string& aggregate, double std_coef,
                    const std::vector<double>& member_weights) {
  Json json = {{"ensemble", members}, {"aggregate", aggregate}, {"std_coef", std_coef}};
  if (!member_weights.empty()) json["member_weights"] = member_weights;
  write_file_atomic(path / "meed.json", json.dump(2) + "\n");
}

std::vector<TextScorer::Comparison> TextScorer::compare(std::span<const Text> pairs) {
  auto scores = score(pairs);
  std::vector<Comparison> results;
  for (size_t i = 0; i + 1 < scores.size(); i += 2)
    results.push_back(
        {scores[i].value - scores[i + 1].value, std::move(scores[i]), std::move(scores[i + 1])});
  return results;
}

std::unique_ptr<TextScorer> TextScorer::of(RewardModel& model, const Tokenizer& tokenizer,
                                           const Options& options) {
  return std::make_unique<ModelScorer>(model, tokenizer, options);
}

std::unique_ptr<TextScorer> TextScorer::load(const std::filesystem::path& path,
                                             const Options& options) {
  if (!ensemble_members(path).empty()) return std::make_unique<EnsembleScorer>(path, options);
  if (is_critique_model(path)) return load_critique_scorer(path, options);
  if (!options.aggregate.empty())
    throw DataError(path.string() + ": is one model, no ensemble: there is nothing to aggregate");
  return std::make_unique<ModelScorer>(path, options);
}

}  // namespace meed
