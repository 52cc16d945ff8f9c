#pragma once

#include <cstdint>
#include <vector>

#include "libpolicy/data/example.h"
#include "libpolicy/text/tokenizer.h"

namespace meed {

/// A conversation's tokens and which of them the assistant wrote.
struct MaskedConversation {
  std::vector<int64_t> ids;
  std::vector<uint8_t> assistant;  ///< [ids.size()], 1 on the assistant's tokens
};

/// The ids are those of encode_messages. A template with {% generation %} blocks says itself what
/// the assistant writes (transformers' return_assistant_tokens_mask: a token counts that overlaps a
/// block). With any other a turn of the assistant reaches from the generation prompt of the turns
/// before to where the conversation up to it ends. Throws DataError if there is no template, or if
/// it renders the beginning of a conversation otherwise than the beginning alone.
MaskedConversation encode_assistant_mask(const Tokenizer& tokenizer, const Content& conversation);

}  // namespace meed
