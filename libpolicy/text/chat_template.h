#pragma once

#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "libpolicy/data/example.h"
#include "libpolicy/text/tokenizer.h"

namespace meed {

/// What belongs to a chat template beside its text.
struct ChatTemplateOptions {
  std::string tool_use = {};                             ///< the template for conversations with tools, if another
  std::map<std::string, std::string> named_tokens = {};  ///< "bos_token" -> "<s>": variables of the template
  std::vector<std::string> special_tokens = {};          ///< what messages must not forge
};

/// A chat template (Jinja, as transformers' apply_chat_template renders it).
class ChatTemplate {
 public:
  /// Throws DataError with the template's position on a syntax error.
  explicit ChatTemplate(const std::string& jinja, const ChatTemplateOptions& options = {});
  ~ChatTemplate();

  /// Pieces of template text (trusted) and of message text (not trusted), in order. `tools_json`: a JSON array or "".
  /// Joined they are the rendered text; no special token that stands in a message is trusted as a whole.
  /// Throws DataError (the template's own raise_exception, for one).
  std::vector<Tokenizer::Piece> render(std::span<const Message> messages, bool add_generation_prompt,
                                       const std::string& tools_json = "") const;
  const std::string& source() const;

  /// A rendered conversation and which of its text the assistant wrote.
  struct Rendering {
    std::vector<Tokenizer::Piece> pieces;
    std::vector<std::pair<size_t, size_t>> generated;  ///< byte ranges of the joined pieces, in order
  };
  /// Whether the template marks what the assistant writes by {% generation %} blocks.
  bool has_generation_blocks() const;
  /// render() without a generation prompt, with the places of those blocks. Throws DataError.
  Rendering render_generation(std::span<const Message> messages, const std::string& tools_json = "") const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// Token ids of a conversation. `tools_json`: the functions that the model may call, a JSON array or "".
std::vector<int64_t> encode_messages(const Tokenizer& tokenizer, std::span<const Message> messages, bool add_generation_prompt,
                                     const std::string& tools_json = "");

/// Token ids of a prompt: a plain text as it is, messages through the chat template with a generation prompt.
/// Special tokens in the text are not parsed. Throws DataError if there is no template.
std::vector<int64_t> encode_prompt(const Tokenizer& tokenizer, const Content& prompt);

/// Prompt and completion as TRL splits them: prompt_ids as encode_prompt, completion_ids what follows.
struct EncodedPair {
  std::vector<int64_t> prompt_ids, completion_ids;
};
/// Cuts the start of a pair that is longer than `max_length` tokens, the prompt's first.
void truncate_start(EncodedPair& pair, int64_t max_length);
/// `add_eos`: append EOS to a plain-text completion that does not end with it (TRL's sft and dpo).
EncodedPair encode_pair(const Tokenizer& tokenizer, const Content& prompt, const Content& completion, bool add_eos = true);

/// Token ids of a whole "text"/"messages" row and, for messages, a mask that is 1 on assistant tokens.
std::vector<int64_t> encode_text(const Tokenizer& tokenizer, const Content& text, bool add_eos = true);

}  // namespace meed
