#include "libpolicy/generation/rollout_engine.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <atomic>
#include <deque>
#include <map>
#include <optional>

#include "libpolicy/core/error.h"
#include "libpolicy/generation/decode_kernels.h"
#include "libpolicy/generation/decode_model.h"
#include "libpolicy/generation/kv_cache.h"
#include "libpolicy/generation/sampling.h"
#include "libpolicy/generation/stop_strings.h"
#include "libpolicy/models/causal_lm.h"
#include "libpolicy/text/tokenizer.h"

// One step():
//
//   admit     queue -> free slots: a sequence per seed; prompts new to the engine are listed for
//   prefill prefill   listed prompts, packed into calls of up to kPrefillTokens -> their pages,
//   last hidden state decode    last token of every running sequence -> hidden [running, D] head
//   hidden states of the running sequences and of the prompts that sequences start from -> logits
//   sample    a token for every sequence, threads over sequences
//   settle    stop tokens, stop strings, lengths -> finished sequences leave; whole requests are
//   returned
//
// A sequence's cache is a prefix, which the samples of a prompt share, and a segment of its own.
// The prefix is the prompt; where a request goes on from a context it is the context's prefix
// still, and the rest of the prompt stands in the sequence's own segment, so that a result is the
// same to the bit whether the context was at hand or had to be computed anew.
namespace meed {

class KvContext {
 public:
  std::shared_ptr<KvPagePool> pool;  // outlives the segments
  std::shared_ptr<KvSegment> prefix;
  std::shared_ptr<KvSegment> own;  // null once a request has taken it
  int64_t prefix_length = 0;
  std::vector<int64_t> ids;  // tokens in the cache, prefix included
  int64_t weights = 0;       // Engine::weights_ that computed it
};

namespace {

constexpr int64_t kPrefillTokens = 512;  // bounds the activations' memory

struct Group {
  GenerationRequest request;
  std::vector<Completion> completions;
  std::vector<std::shared_ptr<KvContext>> contexts;
  std::vector<int64_t> stop_ids;
  std::shared_ptr<KvSegment> prefix;
  int64_t prefix_length = 0;
  std::shared_ptr<KvSegment> own;  // of a context, until its sequence starts
  int64_t cached = 0;              // tokens of the prompt that need no prefill
  at::Tensor last_hidden_1D;
  size_t started = 0, finished = 0;

  int64_t prompt_length() const { return static_cast<int64_t>(request.prompt_ids.size()); }
  void drop_context() {
    prefix.reset();
    own.reset();
    cached = 0;
  }
  std::string where() const { return "request " + std::to_string(request.id); }
};

struct Sequence {
  Sequence(Group& g, size_t which, std::shared_ptr<KvSegment> cache)
      : group(&g), index(which), own(std::move(cache)), watch(g.request.sampling.stop_strings) {}

  Completion& completion() const { return group->completions[index]; }
  int64_t sampled() const { return static_cast<int64_t>(completion().token_ids.size()); }
  /// The `position`-th token of prompt and completion: where its keys go.
  DecodeToken token(int64_t id, int64_t position) const {
    if (position < group->prefix_length) return {id, position, {nullptr, 0, group->prefix.get()}};
    return {id, position, {group->prefix.get(), group->prefix_length, own.get()}};
  }

  Group* group;
  size_t index;
  std::shared_ptr<KvSegment> own;
  StopStringWatch watch;
};

class Engine final : public RolloutEngine {
 public:
  Engine(CausalLm& model, const Tokenizer* tokenizer, const EngineOptions& options)
      : model_(model),
        tokenizer_(tokenizer),
        options_(options),
        pool_(std::make_shared<KvPagePool>(DecodeModel::kv_shape(model))) {
    if (options.max_batch_size <= 0) throw ConfigError("max_batch_size must be positive");
    if (options.max_kv_tokens < 0) throw ConfigError("max_kv_tokens must not be negative");
    eos_ids_ = model.config().eos_token_ids;
    if (tokenizer && tokenizer->eos_id()) eos_ids_.push_back(*tokenizer->eos_id());
  }

  void submit(GenerationRequest request) override {
    auto group = std::make_unique<Group>();
    if (request.seeds.empty()) request.seeds = {request.sampling.seed};
    check(request);
    group->completions.resize(request.seeds.size());
    if (request.keep_context) group->contexts.resize(request.seeds.size());
    group->prefix_length = prefix_length(request);
    if (const auto context = std::move(request.context); context && context->weights == weights_) {
      group->prefix = context->prefix;
      group->own = std::move(context->own);
      group->cached = static_cast<int64_t>(context->ids.size());
    }
    for (auto& completion : group->completions) completion.policy_version = policy_version_;
    if (!request.sampling.ignore_eos) {
      group->stop_ids = eos_ids_;
      const auto& extra = request.sampling.stop_token_ids;
      group->stop_ids.insert(group->stop_ids.end(), extra.begin(), extra.end());
    }
    group->request = std::move(request);
    queue_.push_back(group.get());
    groups_.push_back(std::move(group));
  }

  std::vector<FinishedRequest> step() override {
    at::NoGradGuard no_grad;
    if (idle()) return {};
    if (!decoder_) decoder_ = DecodeModel::create(model_);
    const size_t running = sequences_.size();
    try {
      prefill(admit());
      sample(logits(running));
    } catch (...) {
      abort();
      throw;
    }
    return settle();
  }

  bool idle() const override { return groups_.empty(); }

  void refresh_weights(int64_t policy_version) override {
    MEED_CHECK(idle(), "weights change while sequences are running");
    policy_version_ = policy_version;
    ++weights_;
    decoder_.reset();
  }

  void release_memory() override {
    MEED_CHECK(idle(), "memory is released while sequences are running");
    decoder_.reset();
    pool_->release();
  }

 private:
  void check(const GenerationRequest& request) const {
    const auto& config = model_.config();
    const std::string where = "request " + std::to_string(request.id);
    check_sampling_params(request.sampling, where);
    if (!tokenizer_ && !request.sampling.stop_strings.empty())
      throw ConfigError(where + ": stop strings need a tokenizer");
    if (request.prompt_ids.empty())
      throw DataError(where + ": the prompt is empty; give at least one token");
    const auto length = static_cast<int64_t>(request.prompt_ids.size());
    if (config.max_positions > 0 && length > config.max_positions)
      throw DataError(where + ": the prompt has " + std::to_string(length) +
                      " tokens, the model at most " + std::to_string(config.max_positions) +
                      " positions");
    for (const int64_t id : request.prompt_ids)
      if (id < 0 || id >= config.vocab_size)
        throw DataError(where + ": token id " + std::to_string(id) +
                        " is outside the model's vocabulary of " +
                        std::to_string(config.vocab_size) +
                        "; do the tokenizer and the model belong together?");
    if (const auto& context = request.context) {
      if (context->pool != pool_) throw ConfigError(where + ": the context is of another engine");
      if (!context->own || request.seeds.size() > 1)
        throw ConfigError(where + ": a context serves one request with one seed");
      if (request.prompt_ids.size() <= context->ids.size() ||
          !std::equal(context->ids.begin(), context->ids.end(), request.prompt_ids.begin()))
        throw ConfigError(where + ": the prompt does not go on from its context");
    }
    const int64_t needed = pages_of(request, prefix_length(request)) * decode::kPageTokens;
    if (options_.max_kv_tokens > 0 && needed > options_.max_kv_tokens)
      throw ConfigError(where + ": prompt and completion need a cache of " +
                        std::to_string(needed) + " tokens, max_kv_tokens is " +
                        std::to_string(options_.max_kv_tokens));
  }

  int64_t length_limit(const GenerationRequest& request) const {
    const int64_t limit = request.sampling.max_new_tokens,
                  positions = model_.config().max_positions;
    if (positions == 0) return limit;
    return std::min(limit, positions - static_cast<int64_t>(request.prompt_ids.size()) + 1);
  }
  static int64_t prefix_length(const GenerationRequest& request) {
    return request.context ? request.context->prefix_length
                           : static_cast<int64_t>(request.prompt_ids.size());
  }
  /// Tokens of a sequence's own segment at most. The last one is never fed back.
  int64_t own_tokens(const GenerationRequest& request, int64_t prefix) const {
    return static_cast<int64_t>(request.prompt_ids.size()) - prefix + length_limit(request) - 1;
  }
  /// Pages of a prefix and one sequence's own segment.
  int64_t pages_of(const GenerationRequest& request, int64_t prefix) const {
    return KvSegment::pages_for(prefix) + KvSegment::pages_for(own_tokens(request, prefix));
  }

  /// Whether the front of the queue may start beside what runs and waits with a context.
  bool fits(const Group& group) const {
    if (options_.max_kv_tokens == 0) return true;
    int64_t pages = pool_->pages_promised() + pages_of(group.request, group.prefix_length);
    for (const auto& held : {group.prefix, group.own})
      if (held) pages -= held->pages_promised();
    return pages * decode::kPageTokens <= options_.max_kv_tokens;
  }

  /// Fills free slots. Returns the sequences whose prompt has to be computed, one a group.
  std::vector<Sequence*> admit() {
    std::vector<Sequence*> fresh;
    while (!queue_.empty() && static_cast<int64_t>(sequences_.size()) < options_.max_batch_size) {
      Group& group = *queue_.front();
      if (!fits(group)) {
        if (!sequences_.empty()) break;
        for (Group* waiting : queue_)
          if (waiting->own) waiting->drop_context();
      }
      if (!group.prefix) {
        group.prefix = std::make_shared<KvSegment>(*pool_);
        group.prefix->promise(group.prefix_length);
      }
      auto own = group.own ? std::move(group.own) : std::make_shared<KvSegment>(*pool_);
      own->promise(own_tokens(group.request, group.prefix_length));
      sequences_.push_back(std::make_unique<Sequence>(group, group.started++, std::move(own)));
      if (group.started == 1) fresh.push_back(sequences_.back().get());
      if (group.started == group.request.seeds.size()) queue_.pop_front();
    }
    return fresh;
  }

  void prefill(const std::vector<Sequence*>& fresh) {
    std::vector<DecodeToken> tokens;
    std::vector<std::pair<Group*, int64_t>> last_rows;
    const auto flush = [&] {
      if (tokens.empty()) return;
      const auto hidden = decoder_->forward(tokens);
      for (const auto& [group, row] : last_rows)
        group->last_hidden_1D = hidden.narrow(0, row, 1).clone();
      tokens.clear();
      last_rows.clear();
    };
    for (const Sequence* sequence : fresh) {
      Group& group = *sequence->group;
      const int64_t length = group.prompt_length();
      group.prefix->reserve(group.prefix_length);
      sequence->own->reserve(length - group.prefix_length);
      for (int64_t i = group.cached; i < length; ++i) {
        tokens.push_back(sequence->token(group.request.prompt_ids[static_cast<size_t>(i)], i));
        if (i + 1 == length)
          last_rows.emplace_back(&group, static_cast<int64_t>(tokens.size()) - 1);
        if (static_cast<int64_t>(tokens.size()) == kPrefillTokens) flush();
      }
    }
    flush();
  }

  /// Logits of all sequences; rows_[i] is the row of sequence i. The first `running` have a token
  /// to feed.
  at::Tensor logits(size_t running) {
    std::vector<DecodeToken> tokens;
    for (size_t i = 0; i < running; ++i) {
      const auto& sequence = *sequences_[i];
      const int64_t length = sequence.group->prompt_length() + sequence.sampled();
      sequence.own->reserve(length - sequence.group->prefix_length);
      tokens.push_back(sequence.token(sequence.completion().token_ids.back(), length - 1));
    }
    std::vector<at::Tensor> parts;
    if (running > 0) parts.push_back(decoder_->forward(tokens));
    rows_.resize(sequences_.size());
    auto rows = static_cast<int64_t>(running);
    for (size_t i = 0; i < sequences_.size(); ++i) {
      const Group* group = sequences_[i]->group;
      if (i < running) {
        rows_[i] = static_cast<int64_t>(i);
      } else if (i > running && group == sequences_[i - 1]->group) {
        rows_[i] = rows_[i - 1];
      } else {
        rows_[i] = rows++;
        parts.push_back(group->last_hidden_1D);
      }
    }
    return decoder_->logits(parts.size() == 1 ? parts.front() : at::cat(parts));
  }

  void sample(const at::Tensor& logits_MV) {
    const auto count = static_cast<int64_t>(sequences_.size()), V = logits_MV.size(1);
    const auto* logits = logits_MV.const_data_ptr<float>();
    std::vector<SampledToken> tokens(count);
    std::atomic<int64_t> next{0}, bad{-1};
    at::parallel_for(0, std::min<int64_t>(count, at::get_num_threads()), 1, [&](int64_t, int64_t) {
      TokenSampler sampler;
      for (int64_t i = next++; i < count; i = next++) {
        try {
          tokens[i] = sampler.sample(
              sampling_input(*sequences_[i], {logits + rows_[i] * V, static_cast<size_t>(V)}));
        } catch (const TokenSampler::NotFinite&) {
          bad = i;
        }
      }
    });
    if (bad >= 0) {
      const auto& sequence = *sequences_[bad];
      throw Error(
          sequence.group->where() + ", completion " + std::to_string(sequence.index) + ", token " +
          std::to_string(sequence.sampled()) +
          ": the model's logits are not finite; its weights are damaged or training has diverged");
    }
    for (int64_t i = 0; i < count; ++i) {
      auto& completion = sequences_[i]->completion();
      completion.token_ids.push_back(tokens[i].id);
      completion.logprobs.push_back(tokens[i].logprob);
      if (alters_distribution(sequences_[i]->group->request.sampling))
        completion.sampling_logprobs.push_back(tokens[i].sampling_logprob);
    }
  }

  static SamplingInput sampling_input(const Sequence& sequence, std::span<const float> logits) {
    const auto& request = sequence.group->request;
    SamplingInput input{.logits_V = logits,
                        .params = &request.sampling,
                        .seed = request.seeds[sequence.index],
                        .draw = sequence.sampled(),
                        .prompt_ids = request.prompt_ids,
                        .completion_ids = sequence.completion().token_ids,
                        .forbidden_ids = {}};
    if (sequence.sampled() < request.sampling.min_new_tokens)
      input.forbidden_ids = sequence.group->stop_ids;
    return input;
  }

  std::optional<FinishReason> finish_reason(Sequence& sequence) const {
    const auto& group = *sequence.group;
    const int64_t id = sequence.completion().token_ids.back();
    if (std::find(group.stop_ids.begin(), group.stop_ids.end(), id) != group.stop_ids.end())
      return FinishReason::kStop;
    if (!group.request.sampling.stop_strings.empty() && !tokenizer_->is_special(id) &&
        sequence.watch.push(tokenizer_->token_bytes(id)))
      return FinishReason::kStop;
    if (sequence.sampled() >= length_limit(group.request)) return FinishReason::kLength;
    return std::nullopt;
  }

  std::vector<FinishedRequest> settle() {
    std::vector<FinishedRequest> finished;
    for (auto& sequence : sequences_) {
      const auto reason = finish_reason(*sequence);
      if (!reason) continue;
      Group& group = *sequence->group;
      auto& completion = sequence->completion();
      completion.finish_reason = *reason;
      if (tokenizer_) {
        completion.text = tokenizer_->decode(completion.token_ids, /*skip_special_tokens=*/true);
        const size_t cut = find_stop_string(completion.text, group.request.sampling.stop_strings);
        if (cut != std::string::npos) completion.text.resize(cut);
      }
      if (group.request.keep_context) group.contexts[sequence->index] = context_of(*sequence);
      sequence.reset();
      if (++group.finished < group.request.seeds.size()) continue;
      finished.push_back(
          {group.request.id, std::move(group.completions), std::move(group.contexts)});
      std::erase_if(groups_, [&](const auto& g) { return g.get() == &group; });
    }
    std::erase(sequences_, nullptr);
    return finished;
  }

  std::shared_ptr<KvContext> context_of(const Sequence& sequence) const {
    const Group& group = *sequence.group;
    auto context = std::make_shared<KvContext>();
    context->pool = pool_;
    context->prefix = group.prefix;
    context->own = sequence.own;
    context->prefix_length = group.prefix_length;
    context->ids = group.request.prompt_ids;
    const auto& sampled = sequence.completion().token_ids;
    context->ids.insert(context->ids.end(), sampled.begin(), sampled.end() - 1);
    context->weights = weights_;
    context->own->promise(static_cast<int64_t>(context->ids.size()) - context->prefix_length);
    return context;
  }

  void abort() {
    sequences_.clear();
    queue_.clear();
    groups_.clear();
  }

  CausalLm& model_;
  const Tokenizer* tokenizer_;
  const EngineOptions options_;
  std::shared_ptr<KvPagePool> pool_;  // outlives the segments below
  std::unique_ptr<DecodeModel> decoder_;
  std::vector<std::unique_ptr<Group>> groups_;  // with unfinished completions
  std::deque<Group*> queue_;                    // with completions not started
  std::vector<std::unique_ptr<Sequence>> sequences_;
  std::vector<int64_t> rows_, eos_ids_;
  int64_t policy_version_ = 0, weights_ = 0;  // weights_ counts their changes
};

}  // namespace

std::unique_ptr<RolloutEngine> RolloutEngine::create(CausalLm& model, const Tokenizer* tokenizer,
                                                     const EngineOptions& options) {
  return std::make_unique<Engine>(model, tokenizer, options);
}

std::vector<FinishedRequest> RolloutEngine::generate(std::vector<GenerationRequest> requests) {
  // Ids are the caller's and may repeat: positions stand in for them.
  std::vector<int64_t> ids;
  for (auto& request : requests) {
    ids.push_back(request.id);
    request.id = static_cast<int64_t>(ids.size()) - 1;
    submit(std::move(request));
  }
  std::vector<FinishedRequest> results(ids.size());
  while (!idle())
    for (auto& done : step()) results[done.id] = std::move(done);
  for (size_t i = 0; i < ids.size(); ++i) results[i].id = ids[i];
  return results;
}

}  // namespace meed
