#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

#include "libpolicy/data/example.h"

namespace meed {

enum class FinishReason { kStop, kLength, kAborted };
const char* to_string(FinishReason reason);  ///< "stop", "length", "aborted"

/// One sampled continuation of a prompt.
struct Completion {
  /// A stretch of tokens that the policy or its environment wrote.
  struct Turn {
    std::string text;
    int64_t num_tokens = 0;
    bool sampled = true;  ///< by the policy; else an environment's reply
    bool failed = false;  ///< a reply to a call that could not be carried out
  };
  std::vector<int64_t> token_ids;  ///< [T] without the prompt; includes EOS if sampled.
  /// [T] under the policy at the sampling temperature, over the whole vocabulary: what the trainer
  /// compares with.
  std::vector<float> logprobs;
  /// [T] under the distribution that was really sampled from (after top-k, top-p, min-p,
  /// penalties); empty if the same.
  std::vector<float> sampling_logprobs;
  std::vector<uint8_t> loss_mask;  ///< [T] 0 on tool or environment tokens; empty means all 1.
  /// Index in [0, T) of the last token of each reasoning step, rising; empty: unknown.
  std::vector<int64_t> step_ends{};
  std::string text;                ///< Decoded, special tokens skipped; a stop string is cut off.
  std::vector<Turn> turns;         ///< With an environment; empty: one turn, all of it sampled.
  at::Tensor media;                ///< Image or latent of flow policies; undefined for text.
  FinishReason finish_reason = FinishReason::kStop;
  int64_t policy_version = 0;  ///< Optimiser steps done when sampling began.
};

/// All completions of one prompt: the unit of reward, advantage and logging.
struct RolloutGroup {
  Example example;
  std::string prompt_text;  ///< as rendered, for people
  std::vector<int64_t> prompt_ids;
  std::vector<Completion> completions;  ///< [G]
};

}  // namespace meed
