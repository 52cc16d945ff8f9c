#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "libpolicy/core/config.h"
#include "libpolicy/models/causal_lm.h"
#include "libreward/models/reward_head.h"
#include "libreward/models/text_scorer.h"

namespace meed {

class Tokenizer;

/// How a critique is asked for and how many are averaged: stands in meed.json.
struct CritiqueFormat {
  std::string marker = "\n\nCritique:";  ///< between the completion and its critique
  int64_t num_critiques = 1;             ///< served: the mean score over so many
  int64_t max_critique_length = 128;
  double temperature = 0.0;  ///< of critiques; 0 is greedy, then one is as good as many
};

/// A language model that writes a critique of a completion and scores prompt, completion and
/// critique with a head on the last token (MM-RLHF). It is a causal language model for transformers
/// too; the head's parameters stand beside.
class CritiqueModel {
 public:
  /// Prompt, completion and marker; and the critique, its EOS included.
  struct Row {
    std::span<const int64_t> context, critique;
  };
  struct Output {
    at::Tensor rewards_B;   ///< float32
    at::Tensor logprobs_M;  ///< of all critique tokens, rows end to end
  };
  /// Throws DataError. With `head` (a new one from `seed`) any language model will do.
  static std::unique_ptr<CritiqueModel> load(const std::filesystem::path& path,
                                             const LoadOptions& options,
                                             const ConfigNode* head = nullptr, uint64_t seed = 0);
  Output forward(std::span<const Row> rows);
  CausalLm& backbone() { return *backbone_; }
  ParameterStore& parameters() { return parameters_; }
  /// Throws DataError.
  void save(const std::filesystem::path& folder, const Tokenizer* tokenizer, at::ScalarType dtype,
            const CritiqueFormat& format) const;

 private:
  std::unique_ptr<CausalLm> backbone_;
  std::unique_ptr<RewardHead> head_;
  ParameterStore parameters_;
  std::string head_yaml_;
};

/// Token ids of a critique's context: prompt, completion, marker; cut at its start to `max_length`.
/// And of a critique with its EOS.
std::vector<int64_t> critique_context(const Tokenizer& tokenizer, const std::string& marker,
                                      const Content& prompt, const Content& completion,
                                      int64_t max_length);
std::vector<int64_t> critique_ids(const Tokenizer& tokenizer, const std::string& critique);

/// The folder was written by CritiqueModel::save.
bool is_critique_model(const std::filesystem::path& path);
/// Serves it: generates critiques, scores with each, gives their mean. Throws DataError.
std::unique_ptr<TextScorer> load_critique_scorer(const std::filesystem::path& path,
                                                 const TextScorer::Options& options);

}  // namespace meed
