#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "libpolicy/generation/rollout.h"

namespace meed {

class CausalLm;
class Tokenizer;

struct SamplingParams {
  double temperature = 1.0;  ///< 0 is greedy.
  double top_p = 1.0;
  double min_p = 0.0;
  int64_t top_k = 0;  ///< 0 keeps every token.
  double repetition_penalty = 1.0;
  int64_t max_new_tokens = 256;
  int64_t min_new_tokens = 0;  ///< Stop tokens are not sampled before.
  std::vector<int64_t> stop_token_ids;
  std::vector<std::string> stop_strings;
  bool ignore_eos = false;  ///< For benchmarks: always max_new_tokens.
  uint64_t seed = 0;        ///< Draw t of a request depends on (seed, t) only, not on its batch.
};

/// Keys and values of a finished sequence, held for a request that goes on from it.
class KvContext;

/// One prompt and its G samples; the prompt's prefill is computed once.
struct GenerationRequest {
  int64_t id = 0;
  std::vector<int64_t> prompt_ids;
  SamplingParams sampling;
  std::vector<uint64_t> seeds;  ///< one per completion; empty: a single one with sampling.seed
  bool keep_context = false;    ///< FinishedRequest::contexts are wanted.
  /// A context of this engine whose sequence the prompt begins with: only the tokens behind it are
  /// computed. Serves one request of a single seed. Null: the whole prompt.
  std::shared_ptr<KvContext> context{};
};

struct FinishedRequest {
  int64_t id = 0;
  std::vector<Completion> completions;  ///< in the order of the seeds
  /// One a completion if the request kept them, else empty. Each holds its part of the cache until
  /// it is used or destroyed.
  std::vector<std::shared_ptr<KvContext>> contexts{};
};

struct EngineOptions {
  int64_t max_batch_size = 64;  ///< sequences decoded at the same time
  /// 0: as many as the batch needs. Contexts count; those of waiting requests are dropped and
  /// computed anew where nothing could run beside them.
  int64_t max_kv_tokens = 0;
};

/// Samples completions with a KV cache and continuous batching: a finished sequence leaves its slot
/// to a queued one at the next step. Not thread-safe; one engine per model.
class RolloutEngine {
 public:
  virtual ~RolloutEngine() = default;
  /// `tokenizer` may be null: then completions have no text and stop strings are refused. EOS: the
  /// model's eos_token_ids and the tokenizer's.
  static std::unique_ptr<RolloutEngine> create(CausalLm& model, const Tokenizer* tokenizer,
                                               const EngineOptions& options = {});

  virtual void submit(GenerationRequest request) = 0;
  /// Admits queued requests, decodes one token for every active sequence, returns the requests that
  /// ended.
  virtual std::vector<FinishedRequest> step() = 0;
  virtual bool idle() const = 0;
  /// The model's weights changed (an optimiser step): packs them anew. Running sequences must have
  /// ended; contexts of the old weights are computed anew.
  virtual void refresh_weights(int64_t policy_version) = 0;
  /// Frees the KV cache and packed weights between rollouts; the next submit makes them again. No
  /// context may be held.
  virtual void release_memory() = 0;

  /// submit() all, step() until idle; results in the order of the requests.
  std::vector<FinishedRequest> generate(std::vector<GenerationRequest> requests);
};

}  // namespace meed
