#include "libreward/models/feature_backbone.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>

#include "libpolicy/checkpoint/model_files.h"
#include "libpolicy/core/error.h"

namespace meed {
namespace {

/// Whether config.json is a BERT encoder's.
bool is_encoder(const std::string& config_json) {
  const auto key = config_json.find("\"model_type\"");
  const auto value = config_json.find("\"bert\"", key);
  return key != std::string::npos && value != std::string::npos &&
         value - key < std::string_view("\"model_type\" :   \"").size();
}

int64_t num_tokens(const EncodedPair& pair) {
  return static_cast<int64_t>(pair.prompt_ids.size() + pair.completion_ids.size());
}

}  // namespace

FeatureBackbone::FeatureBackbone(const FeatureSource& source, int64_t max_tokens_per_batch)
    : source_(source),
      max_tokens_(max_tokens_per_batch),
      tokenizer_(Tokenizer::load(source.model)) {
  if (source.pooling != "last" && source.pooling != "mean" && source.pooling != "prompt_end")
    throw ConfigError("pooling: expected last, mean or prompt_end, got \"" + source.pooling + "\"");
  const auto files = ModelFiles::open(source.model);
  if (is_encoder(files->config_json())) {
    if (source.pooling != "mean")
      throw ConfigError("pooling: " + source.model + " is an encoder; its features are the mean");
    encoder_ = EncoderLm::load(source.model);
    size_ = encoder_->config().hidden_size;
    source_.max_length = std::min(source_.max_length, encoder_->config().max_positions);
  } else {
    decoder_ = CausalLm::load(*files, {.lm_head = false});
    size_ = decoder_->config().hidden_size;
  }
}

EncodedPair FeatureBackbone::encode(const Content& prompt, const Content& completion) const {
  EncodedPair pair;
  if (encoder_) {
    // A sentence with its [CLS] and [SEP]; a prompt and what follows are one sentence.
    const auto text = prompt.empty() ? as_text(completion, "\n")
                                     : as_text(prompt, "\n") + "\n" + as_text(completion, "\n");
    pair.completion_ids = tokenizer_->encode(text, {.add_special_tokens = true});
    if (static_cast<int64_t>(pair.completion_ids.size()) > source_.max_length) {
      const auto last = pair.completion_ids.back();
      pair.completion_ids.resize(static_cast<size_t>(source_.max_length));
      pair.completion_ids.back() = last;
    }
    if (!prompt.empty()) {
      pair.prompt_ids = tokenizer_->encode(as_text(prompt, "\n"), {.add_special_tokens = true});
      pair.prompt_ids.resize(
          std::min(pair.prompt_ids.size(), static_cast<size_t>(source_.max_length)));
    }
    return pair;
  }
  pair = prompt.empty() && completion.conversational
             ? EncodedPair{{}, encode_text(*tokenizer_, completion)}
             : encode_pair(*tokenizer_, prompt, completion);
  truncate_start(pair, source_.max_length);
  return pair;
}

HeadInput FeatureBackbone::embed(std::span<const EncodedPair> texts) {
  const at::NoGradGuard no_grad;
  std::vector<at::Tensor> features, contexts;
  for (size_t first = 0; first < texts.size();) {
    int64_t tokens = 0;
    size_t end = first;
    while (end < texts.size() && (end == first || tokens + num_tokens(texts[end]) <= max_tokens_)) {
      if (num_tokens(texts[end]) == 0)
        throw DataError("text " + std::to_string(end + 1) + " has no tokens");
      tokens += num_tokens(texts[end++]);
    }
    const auto part = texts.subspan(first, end - first);
    const auto input = encoder_ ? embed_encoder(part) : embed_decoder(part);
    features.push_back(input.features_BD);
    contexts.push_back(input.context_BD);
    first = end;
  }
  if (features.empty()) return {at::zeros({0, size_}), at::zeros({0, size_})};
  return {at::cat(features), at::cat(contexts)};
}

HeadInput FeatureBackbone::embed_decoder(std::span<const EncodedPair> texts) {
  PackedBatchBuilder builder;
  std::vector<int64_t> last, context;
  for (const auto& text : texts) {
    const int64_t first = builder.num_tokens();
    auto ids = text.prompt_ids;
    ids.insert(ids.end(), text.completion_ids.begin(), text.completion_ids.end());
    builder.add(ids);
    last.push_back(builder.num_tokens() - 1);
    context.push_back(
        text.prompt_ids.empty() ? first : first + static_cast<int64_t>(text.prompt_ids.size()) - 1);
  }
  const auto batch = builder.build();
  const auto hidden_ND = head_input(decoder_->hidden_states(batch));
  const auto at_places = [&](const std::vector<int64_t>& places) {
    return hidden_ND.index_select(0, at::tensor(places, at::kLong));
  };
  HeadInput input{.context_BD = at_places(context)};
  if (source_.pooling == "last") input.features_BD = at_places(last);
  if (source_.pooling == "prompt_end") input.features_BD = input.context_BD;
  if (source_.pooling == "mean") input.features_BD = mean_pool(hidden_ND, batch);
  return input;
}

HeadInput FeatureBackbone::embed_encoder(std::span<const EncodedPair> texts) {
  PackedBatchBuilder whole, prompts;
  for (const auto& text : texts) {
    whole.add(text.completion_ids);
    prompts.add(text.prompt_ids.empty() ? text.completion_ids : text.prompt_ids);
  }
  const auto whole_batch = whole.build(), prompt_batch = prompts.build();
  return {mean_pool(encoder_->hidden_states(whole_batch), whole_batch),
          mean_pool(encoder_->hidden_states(prompt_batch), prompt_batch)};
}

}  // namespace meed
