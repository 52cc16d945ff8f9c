#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "libpolicy/core/config.h"
#include "libpolicy/data/example.h"

namespace meed {

class Tokenizer;

/// How a row becomes what a reward model reads and its outputs one number: what meed.json says
/// beside the head.
struct RewardFormat {
  /// "last" token, "mean" over the tokens, "prompt_end", or "steps": the end of each step.
  std::string pooling = "last";
  std::string step_separator = "\n";       ///< steps: ends a step
  std::string step_aggregate = "product";  ///< steps: of the probabilities, as aggregate_steps
  std::string reference_column;            ///< column whose text the prompt ends with; "": none
  bool probability = false;                ///< serve sigmoid(reward)

  /// The same as JSON, and back. Throws DataError that names `where`.
  std::string to_json(const std::string& head_yaml) const;
  static RewardFormat from_json(const std::string& json, const std::string& where);
};

/// A text to score as token ids.
struct RewardText {
  std::vector<int64_t> prompt_ids, completion_ids;
  std::vector<int64_t> step_ends;  ///< steps: place of each step's last token in completion_ids
};

/// Who reads: a decoder takes prompt and completion as encode_pair gives them; an encoder (BERT)
/// takes both as plain text, "[SEP]" behind each.
enum class RewardReader { kDecoder, kEncoder };

/// Throws DataError if the reference column is missing, or an encoder's tokenizer has no [SEP].
RewardText encode_reward_text(const Tokenizer& tokenizer, const RewardFormat& format,
                              RewardReader reader, const Example& example,
                              const Content& completion);

/// The steps of a completion's text: split behind each separator, empty ones left out.
std::vector<std::string> split_steps(const std::string& text, const std::string& separator);

/// Cuts the start of a text that is longer than `max_length` tokens, the prompt's first; steps that
/// lose their end are dropped. Returns how many were.
int64_t truncate_reward_text(RewardText& text, int64_t max_length);

}  // namespace meed
