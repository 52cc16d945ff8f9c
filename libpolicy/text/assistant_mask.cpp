#include "libpolicy/text/assistant_mask.h"

#include <algorithm>

#include "libpolicy/core/error.h"
#include "libpolicy/text/chat_template.h"

namespace meed {
namespace {

using Ids = std::vector<int64_t>;

/// The first `size` bytes of the joined pieces.
std::vector<Tokenizer::Piece> prefix_of(const std::vector<Tokenizer::Piece>& pieces, size_t size) {
  std::vector<Tokenizer::Piece> prefix;
  for (const auto& piece : pieces) {
    if (size == 0) break;
    prefix.push_back({piece.text.substr(0, size), piece.trusted});
    size -= prefix.back().text.size();
  }
  return prefix;
}

size_t shared_length(const Ids& a, const Ids& b) {
  const auto [end, unused] = std::mismatch(a.begin(), a.end(), b.begin(), b.end());
  return static_cast<size_t>(end - a.begin());
}

void mark_blocks(const Tokenizer& tokenizer, const ChatTemplate::Rendering& rendering,
                 MaskedConversation& result) {
  for (const auto& [begin, end] : rendering.generated) {
    if (begin == end) continue;
    const size_t first =
        shared_length(tokenizer.encode(prefix_of(rendering.pieces, begin)), result.ids);
    const Ids until = tokenizer.encode(prefix_of(rendering.pieces, end));
    size_t last = shared_length(until, result.ids);
    // A token that reaches over the block's end belongs to it.
    if (last < until.size() && last < result.ids.size()) ++last;
    std::fill(result.assistant.begin() + static_cast<std::ptrdiff_t>(first),
              result.assistant.begin() + static_cast<std::ptrdiff_t>(std::max(first, last)), 1);
  }
}

void mark_turns(const Tokenizer& tokenizer, const Content& conversation,
                MaskedConversation& result) {
  const std::span<const Message> messages = conversation.messages;
  const auto length_of = [&](size_t count, bool generation_prompt) {
    const auto ids =
        encode_messages(tokenizer, messages.first(count), generation_prompt, conversation.tools);
    if (shared_length(ids, result.ids) < ids.size())
      throw DataError("assistant_only_loss: the chat template renders the first " +
                      std::to_string(count) +
                      " messages otherwise alone than within the conversation; mark the "
                      "assistant's text in it by {% generation %} ... {% endgeneration %}");
    return static_cast<std::ptrdiff_t>(ids.size());
  };
  for (size_t i = 0; i < messages.size(); ++i) {
    if (messages[i].role != "assistant") continue;
    const auto first = i == 0 ? 0 : length_of(i, /*generation_prompt=*/true);
    const auto last = length_of(i + 1, /*generation_prompt=*/false);
    std::fill(result.assistant.begin() + std::min(first, last), result.assistant.begin() + last, 1);
  }
}

}  // namespace

MaskedConversation encode_assistant_mask(const Tokenizer& tokenizer, const Content& conversation) {
  MaskedConversation result;
  const auto* chat_template = tokenizer.chat_template();
  if (chat_template != nullptr && chat_template->has_generation_blocks()) {
    const auto rendering =
        chat_template->render_generation(conversation.messages, conversation.tools);
    result.ids = tokenizer.encode(rendering.pieces);
    result.assistant.resize(result.ids.size());
    mark_blocks(tokenizer, rendering, result);
    return result;
  }
  result.ids = encode_messages(tokenizer, conversation.messages, /*add_generation_prompt=*/false,
                               conversation.tools);
  result.assistant.resize(result.ids.size());
  mark_turns(tokenizer, conversation, result);
  return result;
}

}  // namespace meed
