#pragma once

#include <ATen/core/ScalarType.h>

#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "libpolicy/data/example.h"
#include "libreward/reward_function.h"

namespace meed {

/// A trained reward model of any kind, served: a model with a head, an ensemble of members in one
/// folder, or a model that writes a critique first. meed.json of the folder says which it is.
class TextScorer {
 public:
  struct Options {
    at::ScalarType dtype = at::kFloat;
    int64_t max_length = 1024;  ///< longer texts lose their start, the prompt's first; 0: never
    int64_t max_tokens_per_micro_batch = 4096;
    uint64_t seed = 0;           ///< of critiques that are sampled
    std::string aggregate = "";  ///< of an ensemble: in place of what its folder says
  };
  /// A completion of a row's prompt. The row's columns are there for who reads them (a reference).
  struct Text {
    const Example* example = nullptr;
    Content completion;
  };
  /// Two completions of one row's prompt, compared.
  struct Comparison {
    double logit = 0.0;  ///< log-odds that the first is better
    Score first, second;
  };

  virtual ~TextScorer() = default;
  /// Throws DataError: a folder that cannot be read, an ensemble's member named.
  static std::unique_ptr<TextScorer> load(const std::filesystem::path& path,
                                          const Options& options);

  /// A model that is being trained, as it is at each call. Both outlive what serves them.
  static std::unique_ptr<TextScorer> of(class RewardModel& model, const class Tokenizer& tokenizer,
                                        const Options& options);

  /// A score for each text: `value` is the reward; step rewards and the head's own outputs stand
  /// beside it. Throws DataError for a text without tokens, naming its row.
  virtual std::vector<Score> score(std::span<const Text> texts) = 0;
  /// Texts 2i and 2i + 1 compared. What is served decides, unless the model has a preference of its
  /// own that is no difference of rewards (a mixture, a preference embedding).
  virtual std::vector<Comparison> compare(std::span<const Text> pairs);
};

/// Names of an ensemble folder's members, in order; empty if the folder is none. Throws DataError.
std::vector<std::string> ensemble_members(const std::filesystem::path& path);

/// Writes meed.json of an ensemble whose members are folders beside it. Throws DataError.
void write_ensemble(const std::filesystem::path& path, const std::vector<std::string>& members,
                    const std::string& aggregate, double std_coef,
                    const std::vector<double>& member_weights);

}  // namespace meed
