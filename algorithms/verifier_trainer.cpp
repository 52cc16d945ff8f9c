#include "algorithms/verifier_trainer.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <optional>

#include "algorithms/learner.h"
#include "libpolicy/core/error.h"
#include "libpolicy/core/metrics.h"
#include "libpolicy/core/random.h"
#include "libpolicy/data/dataset.h"
#include "libpolicy/distributed/communicator.h"
#include "libpolicy/optim/adamw.h"
#include "libpolicy/optim/clip_grad_norm.h"
#include "libpolicy/text/wrong_solutions.h"
#include "libreward/reference_prompt.h"
#include "libreward/reward_pipeline.h"

namespace meed {
namespace {

constexpr uint64_t kRewriteStream = 0x7772;
/// Pairs of one forward and backward pass.
constexpr size_t kPairsAtOnce = 16;

TrainableReward* find_verifier(RewardPipeline& rewards, const std::string& name) {
  auto* found = dynamic_cast<TrainableReward*>(rewards.find(name));
  if (found == nullptr)
    throw ConfigError("algorithm.verifier: \"" + name +
                      "\" names no reward of this recipe that can be trained (type: verifier)");
  return found;
}

RewardFunction* find_rule(RewardPipeline& rewards, const std::string& name) {
  auto* found = rewards.find(name);
  if (found == nullptr)
    throw ConfigError("algorithm.rule: \"" + name +
                      "\" names no reward of this recipe; give the rule a weight of 0 if it is not "
                      "to count");
  return found;
}

}  // namespace

void VerifierTrainer::Config::fields(FieldVisitor& v) {
  v.field("verifier", verifier, "Name of the reward that is trained.");
  v.field("rule", rule, "Name of the reward that marks completions right, with high precision.");
  v.required("rule");
  v.field("rule_threshold", rule_threshold, "Its value from which a completion is right.");
  v.choice("negatives", negatives, {"assistant", "rewrite", "policy"},
           "The wrong completion of a pair. assistant: a language model rewrites the right one; "
           "rewrite: the right one with another last number, without a model; policy: one of the "
           "group's own that the rule marks wrong, or rewrite where there is none.");
  v.section("assistant", assistant, "The language model that rewrites.");
  v.require(negatives != "assistant" || !assistant.path.empty(), "assistant.path",
            "is required: the assistant is the language model that writes the wrong completions "
            "(negatives: rewrite makes them by rule, without a model)");
  v.field("verifier_learning_rate", verifier_learning_rate,
          "Learning rate of the verifier; the paper takes a tenth of that it was trained with.");
  v.field("verifier_max_grad_norm", verifier_max_grad_norm, "Clip of its gradient; 0: none.");
  v.require(verifier_learning_rate >= 0, "verifier_learning_rate", "must not be negative");
  v.require(verifier_max_grad_norm >= 0, "verifier_max_grad_norm", "must not be negative");
}

VerifierTrainer::VerifierTrainer(const Config& config, RewardPipeline& rewards, uint64_t seed)
    : config_(config),
      seed_(seed),
      verifier_(find_verifier(rewards, config.verifier)),
      rule_(find_rule(rewards, config.rule)),
      assistant_(config.negatives == "assistant"
                     ? std::make_unique<AnswerRewriter>(config.assistant)
                     : nullptr),
      optimizer_(std::make_unique<AdamW>(verifier_->trainable_parameters(), AdamWOptions{})) {}

VerifierTrainer::~VerifierTrainer() = default;

void VerifierTrainer::add_to(TrainableModel& model) {
  static constexpr const char* kFolder = "reward_model";
  const auto save = [this](const std::filesystem::path& folder) {
    verifier_->save_model(folder / kFolder);
  };
  model.save = [policy = model.save, save](const std::filesystem::path& folder) {
    policy(folder);
    save(folder);
  };
  model.save_exact = [policy = model.save_exact, save](const std::filesystem::path& folder) {
    policy(folder);
    save(folder);
  };
  model.load = [policy = model.load, this](const std::filesystem::path& folder) {
    policy(folder);
    verifier_->load_model(folder / kFolder);
  };
}

/// The first completion of every group that the rule marks right.
std::vector<VerifierTrainer::Right> VerifierTrainer::find_right(
    const ScoredRollouts& rollouts) const {
  std::vector<Right> right;
  const auto& rule_PG = rollouts.components.at(config_.rule);
  for (size_t p = 0; p < rollouts.groups.size(); ++p)
    for (size_t g = 0; g < rollouts.groups[p].completions.size(); ++g)
      if (rule_PG[static_cast<int64_t>(p)][static_cast<int64_t>(g)].item<double>() >=
          config_.rule_threshold) {
        right.push_back({p, g});
        break;
      }
  return right;
}

uint64_t VerifierTrainer::seed_of(const ScoredRollouts& rollouts, size_t group) const {
  return mix_seed({seed_, kRewriteStream, static_cast<uint64_t>(updates_),
                   static_cast<uint64_t>(rollouts.places[group])});
}

/// A wrong completion without a model, "" if none can be made.
std::string VerifierTrainer::wrong_by_rule(const ScoredRollouts& rollouts,
                                           const Right& right) const {
  const auto& completions = rollouts.groups[right.group].completions;
  const auto& rule_PG = rollouts.components.at(config_.rule);
  if (config_.negatives == "policy")
    for (size_t g = 0; g < completions.size(); ++g) {
      const double value =
          rule_PG[static_cast<int64_t>(right.group)][static_cast<int64_t>(g)].item<double>();
      if (value < config_.rule_threshold && !completions[g].text.empty())
        return completions[g].text;
    }
  return with_other_number(completions[right.index].text, seed_of(rollouts, right.group))
      .value_or("");
}

std::vector<std::vector<std::string>> VerifierTrainer::wrong_texts(const ScoredRollouts& rollouts,
                                                                   std::span<const Right> right) {
  std::vector<std::vector<std::string>> texts;
  if (!assistant_) {
    for (const auto& each : right) texts.push_back({wrong_by_rule(rollouts, each)});
    return texts;
  }
  std::vector<AnswerRewriter::Query> queries;
  for (const auto& [p, g] : right) {
    const auto& group = rollouts.groups[p];
    queries.push_back({&group.example, group.completions[g].text, seed_of(rollouts, p)});
  }
  return assistant_->rewrite(queries);
}

/// At most one pair a group, whose wrong side the rule has read and found wrong.
std::vector<VerifierTrainer::Pair> VerifierTrainer::find_pairs(const ScoredRollouts& rollouts,
                                                               MetricsWriter& metrics) {
  const auto right = find_right(rollouts);
  const auto texts = wrong_texts(rollouts, right);
  std::vector<RolloutGroup> asked;
  for (size_t i = 0; i < right.size(); ++i)
    for (const auto& text : texts[i]) {
      auto& query = asked.emplace_back();
      query.example = rollouts.groups[right[i].group].example;
      query.completions.emplace_back().text = text;
    }
  const auto verdicts = rule_->score(asked);
  std::vector<Pair> pairs;
  size_t at = 0;
  for (size_t i = 0; i < right.size(); ++i) {
    const auto& group = rollouts.groups[right[i].group];
    bool found = false;
    for (const auto& text : texts[i]) {
      const auto& verdict = verdicts[at++][0];
      // An assistant's text without an answer has not the shape of a solution.
      const bool shaped = !assistant_ || verdict.unreadable.empty();
      if (found || text.empty() || !shaped || !(verdict.value < config_.rule_threshold)) continue;
      pairs.push_back({&group.example, group.completions[right[i].index].text, text});
      found = true;
    }
  }
  metrics.record("verifier/unchecked", static_cast<double>(right.size() - pairs.size()),
                 Reduce::kSum);
  return pairs;
}

void VerifierTrainer::update(const ScoredRollouts& rollouts, Communicator& comm,
                             MetricsWriter& metrics) {
  const auto pairs = find_pairs(rollouts, metrics);
  ++updates_;
  const auto own = static_cast<double>(pairs.size());
  at::Tensor total = at::full({1}, own, at::kDouble);
  comm.all_reduce(total, ReduceOp::kSum);
  const double count = total.item<double>();
  metrics.record("verifier/pairs", own, Reduce::kSum);
  if (count <= 0.0) return;
  double loss = 0.0, right = 0.0;
  for (size_t first = 0; first < pairs.size(); first += kPairsAtOnce) {
    std::vector<TrainableReward::Text> texts;
    for (size_t i = first; i < std::min(pairs.size(), first + kPairsAtOnce); ++i) {
      texts.push_back({pairs[i].example, pairs[i].right});
      texts.push_back({pairs[i].example, pairs[i].wrong});
    }
    const auto logits_B2 = verifier_->logits(texts).view({-1, 2});
    const auto difference_B = logits_B2.select(1, 0) - logits_B2.select(1, 1);
    const auto part = -at::log_sigmoid(difference_B).sum() / count;
    part.backward();
    loss += part.item<double>();
    right += (difference_B > 0).sum().item<double>();
  }
  step(comm);
  metrics.record("verifier/loss", loss, Reduce::kSum);
  if (own > 0) metrics.record("verifier/accuracy", right / own, Reduce::kMean, own);
}

/// Reduces the gradient over ranks, clips and applies it.
void VerifierTrainer::step(Communicator& comm) {
  std::vector<at::Tensor> parameters;
  for (const auto& [name, tensor] : verifier_->trainable_parameters()) {
    auto& gradient = tensor.mutable_grad();
    if (!gradient.defined()) gradient = at::zeros_like(tensor);
    comm.all_reduce(gradient, ReduceOp::kSum);
    parameters.push_back(tensor);
  }
  clip_grad_norm(parameters, config_.verifier_max_grad_norm);
  optimizer_->step(config_.verifier_learning_rate);
  optimizer_->zero_grad();
  verifier_->sync_weights();
}

double VerifierTrainer::accuracy(const Dataset& pairs, int64_t rows, Communicator& comm) {
  at::NoGradGuard no_grad;
  std::vector<Example> examples;
  for (int64_t i = comm.rank(); i < std::min(rows, pairs.size()); i += comm.size()) {
    examples.push_back(pairs.get(i));
    if (examples.back().chosen.empty() || examples.back().rejected.empty())
      throw DataError("algorithm.verify_data: row " + std::to_string(i + 1) +
                      " lacks \"chosen\" or \"rejected\"");
  }
  std::vector<TrainableReward::Text> texts;
  for (const auto& example : examples) {
    texts.push_back({&example, completion_text(example.chosen)});
    texts.push_back({&example, completion_text(example.rejected)});
  }
  double right = 0.0;
  if (!texts.empty()) {
    const auto logits_B2 = verifier_->logits(texts).view({-1, 2});
    right =
        ((logits_B2.select(1, 0) > 0).sum() + (logits_B2.select(1, 1) < 0).sum()).item<double>();
  }
  at::Tensor sums = at::tensor({right, static_cast<double>(texts.size())}, at::kDouble);
  comm.all_reduce(sums, ReduceOp::kSum);
  return sums[0].item<double>() / std::max(1.0, sums[1].item<double>());
}

void VerifierTrainer::save(StateDict& state) const {
  state.integers["updates"] = updates_;
  state.add("optimizer", optimizer_->state_dict());
}

void VerifierTrainer::load(const StateDict& state) {
  updates_ = state.integers.at("updates");
  optimizer_->load_state_dict(state.under("optimizer"));
}

}  // namespace meed
