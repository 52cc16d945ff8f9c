#pragma once

#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "libpolicy/core/config.h"
#include "libpolicy/data/example.h"
#include "libpolicy/models/causal_lm.h"
#include "libpolicy/text/tokenizer.h"

namespace meed {

/// A text as the only turn of a conversation, or as it is.
Content spoken(bool as_chat, const char* role, const std::string& text);

/// A language model that says how likely continuations are: what verdicts, follow-ups and
/// confidences are made of.
class LanguageScorer {
 public:
  struct Config {
    std::string path;
    std::string dtype = "float32";
    int64_t max_length = 2048;
    int64_t max_tokens_per_micro_batch = 4096;
    void fields(FieldVisitor& v);
  };
  /// Throws DataError if the model or its tokenizer cannot be read.
  explicit LanguageScorer(const Config& config);

  /// Log-probability of a continuation in nats.
  struct Likelihood {
    double sum = 0.0;
    int64_t num_tokens = 0;
    double mean() const { return num_tokens > 0 ? sum / static_cast<double>(num_tokens) : 0.0; }
  };
  /// For each prompt and each of its continuations; the prompt's tokens are computed once. A prompt
  /// that is too long loses its start.
  struct Query {
    Content prompt;
    std::vector<Content> continuations;
  };
  std::vector<std::vector<Likelihood>> score(std::span<const Query> queries);

 private:
  Config config_;
  std::unique_ptr<Tokenizer> tokenizer_;
  std::unique_ptr<CausalLm> model_;
};

}  // namespace meed
