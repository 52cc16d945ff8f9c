#pragma once

#include <optional>
#include <vector>

#include "libpolicy/generation/environment.h"
#include "libpolicy/generation/rollout_engine.h"

namespace meed {

struct EpisodeOptions {
  std::optional<int64_t> max_turns;        ///< calls that are answered; null: as many as fit
  std::optional<int64_t> max_turn_length;  ///< sampled tokens of one turn; null: what is left
};

/// Samples every request's completions with an environment that answers their calls: request i is
/// about examples[i]. `sampling.max_new_tokens` bounds a whole completion, replies included. Tokens
/// of replies have loss_mask 0 and log-probability 0; a reasoning step is a turn of the policy. A
/// completion that has no room for a reply, or calls once more than max_turns, ends before the
/// reply. The next turn goes on from the cache of the turns before it; a completion waits for no
/// other one. Draws of turn k depend on (seed, k) and the place in the turn alone. Results in
/// the order of the requests.
std::vector<FinishedRequest> generate_episodes(RolloutEngine& engine, const Tokenizer& tokenizer,
                                               Environment& environment,
                                               std::span<const Example* const> examples,
                                               std::vector<GenerationRequest> requests,
                                               const EpisodeOptions& options = {});

}  // namespace meed
