#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "libpolicy/core/config.h"
#include "libpolicy/models/causal_lm.h"
#include "libreward/models/reward_head.h"

namespace meed {

class Tokenizer;

/// A backbone with a reward head: what reward_modelling trains, `meed score` and the reward function
/// `reward_model` serve. With the head "linear" and pooling "last" its folder is transformers'
/// ...ForSequenceClassification; any other has a meed.json that says what stands on the backbone.
class RewardModel {
 public:
  /// A prompt and texts that follow it, as token ids; the prompt may be empty.
  struct Row {
    std::span<const int64_t> prompt;
    std::vector<std::span<const int64_t>> completions;
  };
  struct Fresh {
    std::optional<ConfigNode> head;  ///< none: linear
    std::string pooling = "last";    ///< "last" token, "mean" over the tokens, "prompt_end"
    uint64_t seed = 0;
  };
  /// Reads a reward model's folder, or, with `fresh`, gives a language model a new head (a folder
  /// whose head fits keeps it). Throws DataError.
  static std::unique_ptr<RewardModel> load(const std::filesystem::path& path,
                                           const LoadOptions& options,
                                           const Fresh* fresh = nullptr);

  /// One output for each completion, rows in order, a row's completions in order. A completion
  /// without tokens is read at its prompt's end; throws InternalError where both are empty.
  HeadOutput forward(std::span<const Row> rows);
  const RewardHead& head() const { return *head_; }
  CausalLm& backbone() { return *backbone_; }
  /// The backbone's and the head's.
  ParameterStore& parameters() { return parameters_; }
  void sync_compute_weights() { backbone_->sync_compute_weights(); }
  /// Throws DataError.
  void save(const std::filesystem::path& folder, const Tokenizer* tokenizer,
            at::ScalarType dtype) const;

 private:
  std::unique_ptr<CausalLm> backbone_;
  std::unique_ptr<RewardHead> head_;
  ParameterStore parameters_;
  std::string head_yaml_, pooling_;
  bool plain_ = true;  ///< transformers reads the folder as it is
};

}  // namespace meed
