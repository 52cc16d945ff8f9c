#pragma once

#include <cstdint>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "libpolicy/generation/rollout_engine.h"

namespace meed {

/// What one draw depends on.
struct SamplingInput {
  std::span<const float> logits_V;
  const SamplingParams* params = nullptr;
  uint64_t seed = 0;  ///< of the sequence
  int64_t draw = 0;   ///< tokens sampled so far: the draw is uniform(seed, draw)
  std::span<const int64_t>
      prompt_ids;  ///< with completion_ids what the repetition penalty punishes
  std::span<const int64_t> completion_ids;
  std::span<const int64_t> forbidden_ids;  ///< not to be sampled: stop tokens before min_new_tokens
};

struct SampledToken {
  int64_t id = 0;
  float logprob = 0;  ///< log softmax(logits / temperature)[id] over the whole vocabulary
                      ///< (temperature 1 if greedy)
  float sampling_logprob =
      0;  ///< under the distribution drawn from; equals logprob if nothing was changed
};

/// Whether draws may come from another distribution than softmax(logits / temperature).
bool alters_distribution(const SamplingParams& params);

/// Throws ConfigError naming the parameter and `where`, e.g. "request 7".
void check_sampling_params(const SamplingParams& params, const std::string& where);

/// One token. Order and meaning are transformers': repetition penalty, temperature, top-k (ties of
/// the k-th stay), top-p (the smallest set that reaches it), min-p (relative to the most likely).
/// Temperature 0 takes the most likely, the first of equals. Holds scratch memory: one per thread.
class TokenSampler {
 public:
  /// Thrown when the logits hold NaN or +infinity.
  struct NotFinite : std::runtime_error {
    NotFinite() : std::runtime_error("logits are not finite") {}
  };
  SampledToken sample(const SamplingInput& input);

 private:
  struct Candidate {
    float logit;
    int64_t id;
  };
  std::span<const float> processed(const SamplingInput& input);
  int64_t draw_from_all(std::span<const float> logits, float max, float scale, double u);
  void collect(std::span<const float> logits, float threshold);
  void keep_top_k(std::span<const float> logits, float max, float scale, int64_t k);
  void keep_top_p(std::span<const float> logits, float max, float scale, double p,
                  bool from_candidates);

  std::vector<float> logits_, weights_;
  std::vector<double> blocks_;
  std::vector<Candidate> candidates_;
};

}  // namespace meed
