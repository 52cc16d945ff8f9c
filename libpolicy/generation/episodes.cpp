#include "libpolicy/generation/episodes.h"

#include <algorithm>
#include <map>

#include "libpolicy/core/error.h"
#include "libpolicy/core/random.h"
#include "libpolicy/generation/stop_strings.h"
#include "libpolicy/text/tokenizer.h"

// submit   the first turn of all requests, each with all its seeds
// step     whatever ended goes through `absorb`: its tokens join their completion; where it ends in
// a
//          call, the environment's reply joins too and the next turn is submitted at once, one
//          request a completion
namespace meed {
namespace {

class Episodes {
 public:
  Episodes(RolloutEngine& engine, const Tokenizer& tokenizer, Environment& environment,
           std::span<const Example* const> examples, std::vector<GenerationRequest> requests,
           const EpisodeOptions& options)
      : engine_(engine),
        tokenizer_(tokenizer),
        environment_(environment),
        examples_(examples),
        options_(options),
        stops_(environment.stop_strings()),
        requests_(std::move(requests)) {
    MEED_CHECK(examples_.size() == requests_.size(), "an example for each request");
    MEED_CHECK(!stops_.empty(), "an environment needs stop strings");
  }

  std::vector<FinishedRequest> run() {
    results_.resize(requests_.size());
    for (size_t p = 0; p < requests_.size(); ++p) {
      auto& request = requests_[p];
      if (request.seeds.empty()) request.seeds = {request.sampling.seed};
      results_[p].id = request.id;
      results_[p].completions.resize(request.seeds.size());
      auto first = request;
      first.sampling.max_new_tokens = turn_length(request.sampling.max_new_tokens);
      std::vector<size_t> indices(request.seeds.size());
      for (size_t g = 0; g < indices.size(); ++g) indices[g] = g;
      submit(std::move(first), {p, std::move(indices)});
    }
    while (!engine_.idle())
      for (auto& done : engine_.step()) {
        const auto place = std::move(places_.at(done.id));
        places_.erase(done.id);
        for (size_t i = 0; i < place.indices.size(); ++i)
          absorb(place.request, place.indices[i], std::move(done.completions[i]),
                 std::move(done.contexts[i]));
      }
    return std::move(results_);
  }

 private:
  /// What an engine's request samples: completions `indices` of `request`.
  struct Place {
    size_t request = 0;
    std::vector<size_t> indices;
  };

  int64_t turn_length(int64_t left) const {
    return std::min(left, options_.max_turn_length.value_or(left));
  }

  void submit(GenerationRequest request, Place place) {
    request.id = next_id_++;
    request.keep_context = true;
    auto& stops = request.sampling.stop_strings;
    stops.insert(stops.end(), stops_.begin(), stops_.end());
    places_[request.id] = std::move(place);
    engine_.submit(std::move(request));
  }

  void absorb(size_t p, size_t g, Completion turn, std::shared_ptr<KvContext> context) {
    auto& whole = results_[p].completions[g];
    const bool reshaped = !turn.sampling_logprobs.empty();
    append(whole, turn, reshaped);
    if (!turn.token_ids.empty())
      whole.step_ends.push_back(static_cast<int64_t>(whole.token_ids.size()) - 1);
    whole.finish_reason = turn.finish_reason;
    whole.policy_version = turn.policy_version;
    auto text = tokenizer_.decode(turn.token_ids, /*skip_special_tokens=*/true);
    const bool called = ends_in_call(turn, requests_[p].sampling.stop_strings, text);
    if (!called) text = std::move(turn.text);  // the recipe's own stop strings are cut off
    whole.text += text;
    whole.turns.push_back(
        {.text = std::move(text), .num_tokens = static_cast<int64_t>(turn.token_ids.size())});
    if (called) answer(p, g, reshaped, std::move(context));
  }

  /// Whether a turn stopped for the environment; then `text` ends behind the stop string.
  /// A stop string of the request itself that stands before it ends the completion instead.
  bool ends_in_call(const Completion& turn, std::span<const std::string> own,
                    std::string& text) const {
    if (turn.finish_reason != FinishReason::kStop) return false;
    size_t first = std::string::npos, end = 0;
    for (const auto& stop : stops_)
      if (const size_t at = text.find(stop); at < first) {
        first = at;
        end = at + stop.size();
      }
    if (first == std::string::npos) return false;
    if (const size_t at = find_stop_string(text, own); at < first) return false;
    text.resize(end);
    return true;
  }

  void answer(size_t p, size_t g, bool reshaped, std::shared_ptr<KvContext> context) {
    auto& whole = results_[p].completions[g];
    const auto& request = requests_[p];
    const auto calls = static_cast<int64_t>(whole.turns.size() + 1) / 2;
    if (options_.max_turns && calls > *options_.max_turns) return;
    const auto reply = environment_.reply(*examples_[p], whole.turns);
    if (!reply) return;
    Completion told;
    told.token_ids = tokenizer_.encode(reply->text);
    const auto used = static_cast<int64_t>(whole.token_ids.size() + told.token_ids.size());
    const int64_t left = request.sampling.max_new_tokens - used;
    if (left <= 0) {
      whole.finish_reason = FinishReason::kLength;
      return;
    }
    const auto count = told.token_ids.size();
    told.logprobs.assign(count, 0.0F);
    if (reshaped) told.sampling_logprobs.assign(count, 0.0F);
    told.loss_mask.assign(count, 0);
    append(whole, told, reshaped);
    whole.text += reply->text;
    whole.turns.push_back({.text = reply->text,
                           .num_tokens = static_cast<int64_t>(count),
                           .sampled = false,
                           .failed = reply->failed});
    auto next = request;
    next.prompt_ids.insert(next.prompt_ids.end(), whole.token_ids.begin(), whole.token_ids.end());
    next.context = std::move(context);
    next.seeds = {mix_seed({request.seeds[g], static_cast<uint64_t>(calls)})};
    next.sampling.max_new_tokens = turn_length(left);
    next.sampling.min_new_tokens = 0;
    submit(std::move(next), {p, {g}});
  }

  static void append(Completion& whole, const Completion& part, bool reshaped) {
    const auto add = [](auto& to, const auto& from) {
      to.insert(to.end(), from.begin(), from.end());
    };
    add(whole.token_ids, part.token_ids);
    add(whole.logprobs, part.logprobs);
    if (reshaped) add(whole.sampling_logprobs, part.sampling_logprobs);
    if (part.loss_mask.empty())
      whole.loss_mask.resize(whole.token_ids.size(), 1);
    else
      add(whole.loss_mask, part.loss_mask);
  }

  RolloutEngine& engine_;
  const Tokenizer& tokenizer_;
  Environment& environment_;
  std::span<const Example* const> examples_;
  const EpisodeOptions options_;
  const std::vector<std::string> stops_;
  std::vector<GenerationRequest> requests_;
  std::vector<FinishedRequest> results_;
  std::map<int64_t, Place> places_;
  int64_t next_id_ = 0;
};

}  // namespace

Registry<Environment>& environments() {
  static Registry<Environment> registry("environment");
  return registry;
}

std::vector<FinishedRequest> generate_episodes(RolloutEngine& engine, const Tokenizer& tokenizer,
                                               Environment& environment,
                                               std::span<const Example* const> examples,
                                               std::vector<GenerationRequest> requests,
                                               const EpisodeOptions& options) {
  return Episodes(engine, tokenizer, environment, examples, std::move(requests), options).run();
}

}  // namespace meed
