#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>

#include <chrono>

#include "algorithms/cli/bench.h"
#include "libpolicy/core/error.h"
#include "libpolicy/generation/rollout_engine.h"
#include "libpolicy/models/causal_lm.h"

namespace meed::cli {
namespace {

/// Random prompts of one length as the peer's script draws them; EOS does not stop.
std::vector<GenerationRequest> random_requests(const BenchOptions& options, int64_t vocab_size,
                                               int64_t prompt_tokens, int64_t new_tokens) {
  auto generator = at::detail::createCPUGenerator(/*seed=*/0);
  std::vector<GenerationRequest> requests;
  for (int64_t row = 0; row < options.batch; ++row) {
    const auto ids = at::randint(100, vocab_size - 100, {prompt_tokens}, generator, at::kLong);
    const auto* data = ids.const_data_ptr<int64_t>();
    requests.push_back({.id = row,
                        .prompt_ids = {data, data + prompt_tokens},
                        .sampling = {.max_new_tokens = new_tokens,
                                     .ignore_eos = true,
                                     .seed = static_cast<uint64_t>(row)},
                        .seeds = {},
                        .keep_context = options.turns > 1 && !options.recompute_turns});
  }
  return requests;
}

/// The conversations so far, each with a reply behind it.
std::vector<GenerationRequest> next_turn(std::vector<GenerationRequest> requests,
                                         const std::vector<FinishedRequest>& finished,
                                         int64_t reply_tokens) {
  for (size_t i = 0; i < requests.size(); ++i) {
    auto& ids = requests[i].prompt_ids;
    const auto& sampled = finished[i].completions[0].token_ids;
    ids.insert(ids.end(), sampled.begin(), sampled.end());
    for (int64_t t = 0; t < reply_tokens; ++t) ids.push_back(100 + t % 100);
    if (requests[i].keep_context) requests[i].context = finished[i].contexts[0];
  }
  return requests;
}

BenchResult run(const BenchOptions& options) {
  const auto model = CausalLm::load(
      options.model, {.dtype = options.dtype == "bfloat16" ? at::kBFloat16 : at::kFloat});
  const auto vocab_size = model->config().vocab_size;
  if (vocab_size < 300)
    throw ConfigError(
        "the benchmark draws ids from [100, vocabulary - 100): the model's is too small");
  const auto engine = RolloutEngine::create(*model, nullptr, {.max_batch_size = options.batch});
  engine->generate(
      random_requests(options, vocab_size, std::min<int64_t>(16, options.prompt_tokens), 4));
  BenchResult result;
  result.start_to_first_step_s = seconds_since_start();
  for (int64_t step = 0; step < options.steps; ++step) {
    auto requests = random_requests(options, vocab_size, options.prompt_tokens, options.new_tokens);
    const auto start = std::chrono::steady_clock::now();
    auto finished = engine->generate(requests);
    for (int64_t turn = 1; turn < options.turns; ++turn) {
      requests = next_turn(std::move(requests), finished, options.reply_tokens);
      finished = engine->generate(requests);
    }
    const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
    for (const auto& request : finished)
      MEED_CHECK(request.completions[0].token_ids.size() == static_cast<size_t>(options.new_tokens),
                 "tokens are missing");
    result.all_s.push_back(elapsed.count());
  }
  result.tokens = static_cast<double>(options.batch * options.new_tokens * options.turns);
  result.extra = {{"batch", static_cast<double>(options.batch)},
                  {"prompt_tokens", static_cast<double>(options.prompt_tokens)},
                  {"new_tokens", static_cast<double>(options.new_tokens)},
                  {"turns", static_cast<double>(options.turns)}};
  return result;
}

const bool registered =
    add_bench({"generate", "Sampling with a key/value cache from random prompts", run});

}  // namespace
}  // namespace meed::cli
