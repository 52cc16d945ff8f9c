#include "libreward/models/language_scorer.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>

#include "libpolicy/models/token_logprobs.h"
#include "libpolicy/text/chat_template.h"

namespace meed {
namespace {

/// Continuations packed for one forward pass, and where their sums go.
struct Batch {
  PackedBatchBuilder builder;
  std::vector<int64_t> selected, owner;
  std::vector<LanguageScorer::Likelihood*> results;

  void run(CausalLm& model) {
    if (results.empty()) return;
    const auto batch = builder.build();
    const auto logprobs_M = token_logprobs(model, batch, at::tensor(selected, at::kLong)).logprobs_M;
    const auto sums = at::zeros({static_cast<int64_t>(results.size())}, at::kDouble)
                          .index_add(0, at::tensor(owner, at::kLong), logprobs_M.to(at::kDouble));
    for (size_t i = 0; i < results.size(); ++i)
      results[i]->sum = sums[static_cast<int64_t>(i)].item<double>();
    *this = Batch();
  }
};

}  // namespace

Content spoken(bool as_chat, const char* role, const std::string& text) {
  Content content;
  content.conversational = as_chat;
  if (as_chat)
    content.messages = {{role, text, ""}};
  else
    content.text = text;
  return content;
}

void LanguageScorer::Config::fields(FieldVisitor& v) {
  v.field("path", path, "Folder or GGUF file of the language model.");
  v.required("path");
  v.choice("dtype", dtype, {"float32", "bfloat16"}, "What it computes in.");
  v.field("max_length", max_length, "Longer prompts lose their start.");
  v.field("max_tokens_per_micro_batch", max_tokens_per_micro_batch, "Tokens of one forward pass.");
  v.require(max_length > 1, "max_length", "must be at least 2");
  v.require(max_tokens_per_micro_batch > 0, "max_tokens_per_micro_batch", "must be positive");
}

LanguageScorer::LanguageScorer(const Config& config)
    : config_(config),
      tokenizer_(Tokenizer::load(config.path)),
      model_(CausalLm::load(
          config.path, {.dtype = config.dtype == "bfloat16" ? at::kBFloat16 : at::kFloat})) {}

std::vector<std::vector<LanguageScorer::Likelihood>> LanguageScorer::score(
    std::span<const Query> queries) {
  at::NoGradGuard no_grad;
  std::vector<std::vector<Likelihood>> likelihoods;
  for (const auto& query : queries) likelihoods.emplace_back(query.continuations.size());
  Batch batch;
  for (size_t q = 0; q < queries.size(); ++q) {
    int64_t prefix = -1;
    std::vector<int64_t> prefix_ids;
    for (size_t c = 0; c < queries[q].continuations.size(); ++c) {
      auto pair = encode_pair(*tokenizer_, queries[q].prompt, queries[q].continuations[c],
                              /*add_eos=*/false);
      const auto length = static_cast<int64_t>(pair.completion_ids.size());
      if (length == 0) continue;
      const int64_t room = std::max<int64_t>(config_.max_length - length, 1);
      if (static_cast<int64_t>(pair.prompt_ids.size()) > room)
        pair.prompt_ids.erase(pair.prompt_ids.begin(), pair.prompt_ids.end() - room);
      if (pair.prompt_ids.empty()) {
        // Nothing stands before the first token, so it has no probability of its own.
        pair.prompt_ids.push_back(pair.completion_ids.front());
        pair.completion_ids.erase(pair.completion_ids.begin());
        if (pair.completion_ids.empty()) continue;
      }
      if (prefix < 0 || prefix_ids != pair.prompt_ids) {
        prefix = batch.builder.add(pair.prompt_ids);
        prefix_ids = pair.prompt_ids;
      }
      const int64_t first = batch.builder.num_tokens();
      batch.builder.add(pair.completion_ids, prefix);
      for (int64_t n = first; n < batch.builder.num_tokens(); ++n) {
        batch.selected.push_back(n);
        batch.owner.push_back(static_cast<int64_t>(batch.results.size()));
      }
      likelihoods[q][c].num_tokens = static_cast<int64_t>(pair.completion_ids.size());
      batch.results.push_back(&likelihoods[q][c]);
      if (batch.builder.num_tokens() >= config_.max_tokens_per_micro_batch) {
        batch.run(*model_);
        prefix = -1;
      }
    }
  }
  batch.run(*model_);
  return likelihoods;
}

}  // namespace meed
