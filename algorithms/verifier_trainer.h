#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "algorithms/answer_rewriter.h"
#include "algorithms/scored_rollouts.h"
#include "libpolicy/checkpoint/state_dict.h"
#include "libpolicy/core/config.h"
#include "libreward/trainable_reward.h"

namespace meed {

class AdamW;
class Communicator;
class Dataset;
class MetricsWriter;
class RewardFunction;
class RewardPipeline;
struct TrainableModel;

/// Cooper's stage 2: trains a verifier that serves as a reward on pairs taken from the rollouts,
/// -log sigmoid(logit of the right completion - logit of the wrong one).
class VerifierTrainer {
 public:
  struct Config {
    std::string verifier = "verifier", rule;
    double rule_threshold = 1.0;
    std::string negatives = "assistant";
    AnswerRewriter::Config assistant;
    double verifier_learning_rate = 1e-6;
    double verifier_max_grad_norm = 1.0;
    void fields(FieldVisitor& v);
  };
  /// Throws ConfigError where the rewards have no such verifier or rule.
  VerifierTrainer(const Config& config, RewardPipeline& rewards, uint64_t seed);
  ~VerifierTrainer();

  /// Has checkpoints and the final folder hold the verifier too, as reward_model/.
  void add_to(TrainableModel& model);
  /// One update over the generation's pairs of all ranks, none without a pair. Records
  /// verifier/loss, verifier/accuracy, verifier/pairs and verifier/unchecked (right completions
  /// whose wrong one the rule did not find wrong, which are left out). All ranks call it.
  void update(const ScoredRollouts& rollouts, Communicator& comm, MetricsWriter& metrics);
  /// Share of the first `rows` pairs in which the verifier puts the chosen above 1/2 and the
  /// rejected below, counted by text. All ranks call it.
  double accuracy(const Dataset& pairs, int64_t rows, Communicator& comm);
  void save(StateDict& state) const;
  void load(const StateDict& state);

 private:
  struct Pair {
    const Example* example = nullptr;
    std::string right, wrong;
  };
  /// A group's right completion.
  struct Right {
    size_t group = 0, index = 0;
  };
  std::vector<Right> find_right(const ScoredRollouts& rollouts) const;
  /// Texts that may be wrong, for each of the right ones, in the order in which they are tried.
  std::vector<std::vector<std::string>> wrong_texts(const ScoredRollouts& rollouts,
                                                    std::span<const Right> right);
  std::vector<Pair> find_pairs(const ScoredRollouts& rollouts, MetricsWriter& metrics);
  std::string wrong_by_rule(const ScoredRollouts& rollouts, const Right& right) const;
  uint64_t seed_of(const ScoredRollouts& rollouts, size_t group) const;
  void step(Communicator& comm);

  Config config_;
  uint64_t seed_;
  int64_t updates_ = 0;
  TrainableReward* verifier_;
  RewardFunction* rule_;
  std::unique_ptr<AnswerRewriter> assistant_;
  std::unique_ptr<AdamW> optimizer_;
};

}  // namespace meed
