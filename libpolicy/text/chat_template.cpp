#include "libpolicy/text/chat_template.h"

#include <jinja/lexer.h>
#include <jinja/parser.h>
#include <jinja/runtime.h>
#include <jinja/value.h>
#include <json.h>

#include <algorithm>
#include <cctype>
#include <nlohmann/json.hpp>

#include "libpolicy/core/error.h"
#include "libpolicy/text/unicode.h"

namespace meed {
namespace {

using Json = nlohmann::ordered_json;

/// llama.cpp reports the place in the template in several lines; the first says what happened.
std::string first_lines(const std::string& text) {
  constexpr size_t kMaxShown = 300;
  return text.substr(0, kMaxShown);
}

Json to_json(const Message& message) {
  if (!message.json.empty()) {
    auto whole = Json::parse(message.json, nullptr, /*allow_exceptions=*/false);
    if (whole.is_object()) return whole;
  }
  return {{"role", message.role}, {"content", message.content}};
}

/// Joins neighbours of one kind: the tokenizer cares where template text begins, not how it was put
/// together.
void append(std::vector<Tokenizer::Piece>& pieces, std::string text, bool trusted) {
  if (text.empty()) return;
  if (!pieces.empty() && pieces.back().trusted == trusted)
    pieces.back().text += text;
  else
    pieces.push_back({std::move(text), trusted});
}

// A template may do with a message what it likes, and not all of it keeps the runtime's marks of
// what is input (`tojson`, `split`, `join`). So every special token in a message gets a foreign
// character behind its first one before the template is run; wherever that comes out, the character
// before it is text.

/// A noncharacter of Unicode that `text` does not hold: U+FDD0 to U+FDEF.
std::string foreign_character(const std::string& text) {
  for (char last = '\x90'; last <= '\xAF'; ++last)
    if (std::string candidate{'\xEF', '\xB7', last}; text.find(candidate) == std::string::npos)
      return candidate;
  throw DataError("a conversation with all of U+FDD0 to U+FDEF is no text");
}

bool same_letter(char a, char b) {
  return std::tolower(static_cast<unsigned char>(a)) == std::tolower(static_cast<unsigned char>(b));
}

/// Breaks every special token in `text`, in any case of its letters.
void break_specials(std::string& text, const std::vector<std::string>& specials,
                    const std::string& foreign) {
  for (const auto& special : specials) {
    for (auto at = text.begin();;) {
      at = std::search(at, text.end(), special.begin(), special.end(), same_letter);
      if (at == text.end()) break;
      const auto place =
          static_cast<size_t>(at - text.begin()) + unicode::character_length(special[0]);
      text.insert(place, foreign);
      at = text.begin() + static_cast<std::ptrdiff_t>(place + foreign.size());
    }
  }
}

void break_specials(Json& json, const std::vector<std::string>& specials,
                    const std::string& foreign) {
  if (json.is_string()) {
    auto text = json.get<std::string>();
    break_specials(text, specials, foreign);
    json = std::move(text);
  } else if (json.is_object()) {
    Json broken = Json::object();
    for (const auto& [key, value] : json.items()) {
      std::string name = key;
      break_specials(name, specials, foreign);
      break_specials(broken[name] = value, specials, foreign);
    }
    json = std::move(broken);
  } else if (json.is_array()) {
    for (auto& item : json) break_specials(item, specials, foreign);
  }
}

/// Appends a part of the output without its foreign characters.
void append_mended(std::vector<Tokenizer::Piece>& pieces, const std::string& text, bool trusted,
                   const std::string& foreign) {
  size_t done = 0;
  for (size_t at; (at = text.find(foreign, done)) != std::string::npos;
       done = at + foreign.size()) {
    size_t before = at;
    while (before > done && (static_cast<unsigned char>(text[--before]) & 0xC0) == 0x80) {
    }
    append(pieces, text.substr(done, before - done), trusted);
    append(pieces, text.substr(before, at - before), /*trusted=*/false);
  }
  append(pieces, text.substr(done), trusted);
}

}  // namespace

struct ChatTemplate::Impl {
  std::string source, bos_token, eos_token;
  std::vector<std::string> special_tokens;
  jinja::program program;
};

ChatTemplate::ChatTemplate(const std::string& jinja_source, const std::string& bos_token,
                           const std::string& eos_token, std::vector<std::string> special_tokens)
    : impl_(std::make_unique<Impl>()) {
  impl_->source = jinja_source;
  impl_->bos_token = bos_token;
  impl_->eos_token = eos_token;
  impl_->special_tokens = std::move(special_tokens);
  std::erase(impl_->special_tokens, "");
  try {
    jinja::lexer lexer;
    const auto lexed = lexer.tokenize(jinja_source);
    impl_->program = jinja::parse_from_tokens(lexed);
  } catch (const std::exception& e) {
    throw DataError("chat template: " + first_lines(e.what()));
  }
}

ChatTemplate::~ChatTemplate() = default;

const std::string& ChatTemplate::source() const { return impl_->source; }

std::vector<Tokenizer::Piece> ChatTemplate::render(std::span<const Message> messages,
                                                   bool add_generation_prompt,
                                                   const std::string& tools_json) const {
  Json untrusted = {{"messages", Json::array()}};
  for (const auto& message : messages) untrusted["messages"].push_back(to_json(message));
  if (!tools_json.empty())
    untrusted["tools"] = Json::parse(tools_json, nullptr, /*allow_exceptions=*/false);
  const Json trusted = {{"bos_token", impl_->bos_token},
                        {"eos_token", impl_->eos_token},
                        {"add_generation_prompt", add_generation_prompt}};
  const auto text = [](const Json& json) {
    return json.dump(-1, ' ', false, Json::error_handler_t::replace);
  };
  const auto foreign = foreign_character(text(untrusted) + impl_->source);
  break_specials(untrusted, impl_->special_tokens, foreign);
  std::vector<Tokenizer::Piece> pieces;
  try {
    jinja::context context(impl_->source);
    jinja::global_from_json(context, common_json::parse(text(trusted)), /*mark_input=*/false);
    jinja::global_from_json(context, common_json::parse(text(untrusted)), /*mark_input=*/true);
    jinja::runtime runtime(context);
    const auto parts = jinja::runtime::gather_string_parts(runtime.execute(impl_->program));
    for (const auto& part : parts->as_string().parts)
      append_mended(pieces, part.val, !part.is_input, foreign);
  } catch (const std::exception& e) {
    throw DataError("chat template: " + first_lines(e.what()));
  }
  return pieces;
}

namespace {

const ChatTemplate& template_of(const Tokenizer& tokenizer) {
  const auto* chat_template = tokenizer.chat_template();
  if (chat_template == nullptr)
    throw DataError(
        "the row is a conversation, but the model has no chat template; use plain texts, or a "
        "model with one");
  return *chat_template;
}

bool starts_with(const std::vector<int64_t>& ids, const std::vector<int64_t>& prefix) {
  return ids.size() >= prefix.size() && std::equal(prefix.begin(), prefix.end(), ids.begin());
}

void append_eos(const Tokenizer& tokenizer, std::vector<int64_t>& ids) {
  const auto eos = tokenizer.eos_id();
  if (eos && (ids.empty() || ids.back() != *eos)) ids.push_back(*eos);
}

}  // namespace

std::vector<int64_t> encode_messages(const Tokenizer& tokenizer, std::span<const Message> messages,
                                     bool add_generation_prompt) {
  const auto pieces = template_of(tokenizer).render(messages, add_generation_prompt);
  return tokenizer.encode(pieces);
}

std::vector<int64_t> encode_prompt(const Tokenizer& tokenizer, const Content& prompt) {
  if (prompt.conversational)
    return encode_messages(tokenizer, prompt.messages, /*add_generation_prompt=*/true);
  return tokenizer.encode(prompt.text, {.parse_special = false, .add_special_tokens = true});
}

EncodedPair encode_pair(const Tokenizer& tokenizer, const Content& prompt,
                        const Content& completion, bool add_eos) {
  EncodedPair pair;
  if (completion.conversational) {
    auto messages = prompt.messages;
    // A dialogue without a prompt of its own: everything before its last message.
    std::vector<Message> before = messages;
    messages.insert(messages.end(), completion.messages.begin(), completion.messages.end());
    if (before.empty() && messages.size() > 1) before.assign(messages.begin(), messages.end() - 1);
    if (!before.empty())
      pair.prompt_ids = encode_messages(tokenizer, before, /*add_generation_prompt=*/true);
    auto whole = encode_messages(tokenizer, messages, /*add_generation_prompt=*/false);
    // Some templates write a past answer otherwise than one to come; then the two share less than
    // the prompt.
    if (!starts_with(whole, pair.prompt_ids)) {
      pair.prompt_ids = before.empty()
                            ? std::vector<int64_t>{}
                            : encode_messages(tokenizer, before, /*add_generation_prompt=*/false);
      if (!starts_with(whole, pair.prompt_ids))
        throw DataError(
            "chat template: a conversation does not begin with its own prompt; give the row as "
            "plain text");
    }
    pair.completion_ids.assign(whole.begin() + static_cast<std::ptrdiff_t>(pair.prompt_ids.size()),
                               whole.end());
    return pair;
  }
  pair.prompt_ids = prompt.empty() ? std::vector<int64_t>{} : encode_prompt(tokenizer, prompt);
  if (prompt.conversational) {
    pair.completion_ids = tokenizer.encode(completion.text);
  } else {
    // As TRL: the whole is tokenised as one; where that moves the border inside the prompt, the
    // parts are tokenised apart.
    auto whole = tokenizer.encode(prompt.text + completion.text,
                                  {.parse_special = false, .add_special_tokens = true});
    if (starts_with(whole, pair.prompt_ids))
      pair.completion_ids.assign(
          whole.begin() + static_cast<std::ptrdiff_t>(pair.prompt_ids.size()), whole.end());
    else
      pair.completion_ids = tokenizer.encode(completion.text);
  }
  if (add_eos) append_eos(tokenizer, pair.completion_ids);
  return pair;
}

std::vector<int64_t> encode_text(const Tokenizer& tokenizer, const Content& text, bool add_eos) {
  if (text.conversational)
    return encode_messages(tokenizer, text.messages, /*add_generation_prompt=*/false);
  auto ids = tokenizer.encode(text.text, {.parse_special = false, .add_special_tokens = true});
  if (add_eos) append_eos(tokenizer, ids);
  return ids;
}

}  // namespace meed
