#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "libpolicy/core/config.h"
#include "libpolicy/data/example.h"

namespace meed {

class CausalLm;
class RolloutEngine;
class Tokenizer;

/// Cooper's assistant (Hong et al. 2025): a language model that rewrites a right solution into one
/// of the same shape with a wrong final answer. What it writes is not trusted: the caller has the
/// rule check it.
class AnswerRewriter {
 public:
  struct Config {
    std::string path;
    std::string dtype = "float32";
    std::string pattern =
        "Question:\n{prompt}\n\nCorrect solution:\n{completion}\n\nRewrite this solution in the "
        "same style and with the same steps, but with a mistake that leads to a wrong final "
        "answer. Write nothing but the rewritten solution.";
    bool chat = true;
    std::vector<std::string> stop;
    int64_t num_samples = 2;
    int64_t max_completion_length = 256;
    double temperature = 0.7;
    void fields(FieldVisitor& v);
  };
  struct Query {
    const Example* example = nullptr;
    std::string right;
    uint64_t seed = 0;
  };

  /// Throws DataError if the model or its tokenizer cannot be read.
  explicit AnswerRewriter(const Config& config);
  ~AnswerRewriter();

  /// num_samples rewritten solutions for each query; an empty text where the model ran into
  /// max_completion_length. They depend on the query alone, not on what stands beside it.
  std::vector<std::vector<std::string>> rewrite(std::span<const Query> queries);

 private:
  Config config_;
  std::unique_ptr<Tokenizer> tokenizer_;
  std::unique_ptr<CausalLm> model_;
  std::unique_ptr<RolloutEngine> engine_;
};

}  // namespace meed
