#include "libpolicy/text/chat_template.h"

#include <algorithm>
#include <regex>

#include <jinja/lexer.h>
#include <jinja/parser.h>
#include <jinja/runtime.h>
#include <jinja/value.h>
#include <json.h>

#include <nlohmann/json.hpp>

#include "libpolicy/core/error.h"
#include "libpolicy/text/template_guard.h"

namespace meed {
namespace {

using Json = nlohmann::ordered_json;

/// llama.cpp reports what happened behind the place in the template, in several lines.
std::string problem_of(const std::string& text) {
  constexpr size_t kMaxShown = 300;
  constexpr std::string_view kError = "Error: ", kRaised = "Jinja Exception: ",
                             kPlace = " at line ";
  const size_t error = text.rfind(kError);
  if (error == std::string::npos) return text.substr(0, kMaxShown);
  std::string what = text.substr(error + kError.size(), kMaxShown);
  if (what.starts_with(kRaised)) what.erase(0, kRaised.size());
  const size_t place = text.find(kPlace);
  if (place != std::string::npos && place < error)
    what +=
        " (line " +
        text.substr(place + kPlace.size(), text.find(" in source", place) - place - kPlace.size()) +
        ")";
  return what;
}

Json to_json(const Message& message) {
  if (!message.json.empty()) {
    auto whole = Json::parse(message.json, nullptr, /*allow_exceptions=*/false);
    if (whole.is_object()) return whole;
  }
  return {{"role", message.role}, {"content", message.content}};
}

std::string text_of(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

/// Every string and key of `json` with the mark in its special tokens.
Json guarded(const Json& json, const TemplateGuard& guard, const std::string& mark) {
  if (json.is_string()) return guard.break_tokens(json.get_ref<const std::string&>(), mark);
  Json result = json;
  if (json.is_array())
    for (auto& item : result) item = guarded(item, guard, mark);
  if (json.is_object()) {
    result = Json::object();
    for (const auto& [key, value] : json.items())
      result[guard.break_tokens(key, mark)] = guarded(value, guard, mark);
  }
  return result;
}

// Noncharacters, which no text holds; TemplateGuard takes its own from the others.
constexpr const char* kGenerationBegin = "\uFDEE";
constexpr const char* kGenerationEnd = "\uFDEF";

/// `source` with a mark written where a generation block begins and ends. The tags around the mark
/// keep the original's control of white space.
std::string mark_generation(const std::string& source) {
  static const std::regex tag(R"(\{%([-+]?)\s*(end)?generation\s*([-+]?)%\})");
  std::string marked;
  auto rest = source.cbegin();
  for (std::sregex_iterator at(source.begin(), source.end(), tag), end; at != end; ++at) {
    const auto& match = *at;
    marked.append(rest, match[0].first);
    marked += "{%" + match[1].str() + " if true %}{{ '" +
              (match[2].matched ? kGenerationEnd : kGenerationBegin) + "' }}{% endif " +
              match[3].str() + "%}";
    rest = match[0].second;
  }
  return marked.append(rest, source.cend());
}

jinja::program parse(const std::string& source) {
  try {
    jinja::lexer lexer;
    return jinja::parse_from_tokens(lexer.tokenize(source));
  } catch (const std::exception& e) {
    throw DataError("chat template: " + problem_of(e.what()));
  }
}

}  // namespace

struct ChatTemplate::Impl {
  struct Program {
    std::string source;
    jinja::program program;
  };
  std::vector<Tokenizer::Piece> run(const Program& chosen, std::span<const Message> messages,
                                    bool add_generation_prompt,
                                    const std::string& tools_json) const;

  Program main;
  std::optional<Program> tool_use;
  std::optional<Program> marked;  ///< main with marks around its generation blocks
  Json named_tokens = Json::object();
  TemplateGuard guard;
};

ChatTemplate::ChatTemplate(const std::string& jinja_source, const ChatTemplateOptions& options)
    : impl_(std::make_unique<Impl>()) {
  impl_->main = {jinja_source, parse(jinja_source)};
  if (!options.tool_use.empty()) impl_->tool_use.emplace(options.tool_use, parse(options.tool_use));
  for (const auto& [name, token] : options.named_tokens) impl_->named_tokens[name] = token;
  impl_->guard = TemplateGuard(options.special_tokens);
  if (const auto source = mark_generation(jinja_source); source != jinja_source)
    impl_->marked.emplace(source, parse(source));
}

ChatTemplate::~ChatTemplate() = default;

const std::string& ChatTemplate::source() const { return impl_->main.source; }

std::vector<Tokenizer::Piece> ChatTemplate::render(std::span<const Message> messages,
                                                   bool add_generation_prompt,
                                                   const std::string& tools_json) const {
  const auto& chosen = impl_->tool_use && !tools_json.empty() ? *impl_->tool_use : impl_->main;
  return impl_->run(chosen, messages, add_generation_prompt, tools_json);
}

bool ChatTemplate::has_generation_blocks() const { return impl_->marked.has_value(); }

ChatTemplate::Rendering ChatTemplate::render_generation(std::span<const Message> messages,
                                                        const std::string& tools_json) const {
  MEED_CHECK(impl_->marked.has_value(), "the template has no generation blocks");
  for (const auto& message : messages)
    for (const char* mark : {kGenerationBegin, kGenerationEnd})
      if (text_of(to_json(message)).find(mark) != std::string::npos)
        throw DataError(
            "chat template: a message holds U+FDEE or U+FDEF, which mark the "
            "assistant's text; remove them");
  Rendering rendering;
  size_t size = 0;
  std::optional<size_t> open;
  for (auto& piece :
       impl_->run(*impl_->marked, messages, /*add_generation_prompt=*/false, tools_json)) {
    std::string text;
    for (size_t at = 0; at < piece.text.size();) {
      const std::string_view rest = std::string_view(piece.text).substr(at);
      const bool begins = rest.starts_with(kGenerationBegin),
                 ends = rest.starts_with(kGenerationEnd);
      if (!begins && !ends) {
        text += piece.text[at++];
        continue;
      }
      at += std::string_view(kGenerationBegin).size();
      if (begins == open.has_value())
        throw DataError("chat template: its generation blocks overlap");
      if (ends) rendering.generated.emplace_back(*open, size + text.size());
      open = begins ? std::optional(size + text.size()) : std::nullopt;
    }
    size += text.size();
    if (!text.empty()) rendering.pieces.push_back({std::move(text), piece.trusted});
  }
  if (open) throw DataError("chat template: a generation block is not closed");
  return rendering;
}

std::vector<Tokenizer::Piece> ChatTemplate::Impl::run(const Program& chosen,
                                                      std::span<const Message> messages,
                                                      bool add_generation_prompt,
                                                      const std::string& tools_json) const {
  Json untrusted = {{"messages", Json::array()}};
  for (const auto& message : messages) untrusted["messages"].push_back(to_json(message));
  if (!tools_json.empty()) {
    untrusted["tools"] = Json::parse(tools_json, nullptr, /*allow_exceptions=*/false);
    if (!untrusted["tools"].is_array())
      throw DataError("chat template: \"tools\": expected a list of functions");
  }
  Json trusted = named_tokens;
  trusted["add_generation_prompt"] = add_generation_prompt;
  // Only messages that hold special tokens are rendered with marks: all others give exactly the
  // text that transformers gives.
  std::string mark = TemplateGuard::free_mark(text_of(untrusted));
  Json marked = guarded(untrusted, guard, mark);
  if (marked == untrusted) mark.clear();
  std::vector<Tokenizer::Piece> pieces;
  try {
    jinja::context context(chosen.source);
    jinja::global_from_json(context, common_json::parse(text_of(trusted)), /*mark_input=*/false);
    jinja::global_from_json(context, common_json::parse(text_of(marked)), /*mark_input=*/true);
    jinja::runtime runtime(context);
    const auto parts = jinja::runtime::gather_string_parts(runtime.execute(chosen.program));
    for (const auto& part : parts->as_string().parts)
      TemplateGuard::append_pieces(part.val, mark, /*trusted=*/!part.is_input, pieces);
  } catch (const std::exception& e) {
    throw DataError("chat template: " + problem_of(e.what()));
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
                                     bool add_generation_prompt, const std::string& tools_json) {
  const auto pieces = template_of(tokenizer).render(messages, add_generation_prompt, tools_json);
  return tokenizer.encode(pieces);
}

std::vector<int64_t> encode_prompt(const Tokenizer& tokenizer, const Content& prompt) {
  if (prompt.conversational)
    return encode_messages(tokenizer, prompt.messages, /*add_generation_prompt=*/true,
                           prompt.tools);
  return tokenizer.encode(prompt.text, {.parse_special = false, .add_special_tokens = true});
}

void truncate_start(EncodedPair& pair, int64_t max_length) {
  auto& [prompt, completion] = pair;
  const auto excess = static_cast<int64_t>(prompt.size() + completion.size()) - max_length;
  if (excess <= 0) return;
  const auto from_prompt = std::min(excess, static_cast<int64_t>(prompt.size()));
  prompt.erase(prompt.begin(), prompt.begin() + from_prompt);
  completion.erase(completion.begin(), completion.begin() + (excess - from_prompt));
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
      pair.prompt_ids =
          encode_messages(tokenizer, before, /*add_generation_prompt=*/true, prompt.tools);
    auto whole =
        encode_messages(tokenizer, messages, /*add_generation_prompt=*/false, prompt.tools);
    // Some templates write a past answer otherwise than one to come; then the two share less than
    // the prompt.
    if (!starts_with(whole, pair.prompt_ids)) {
      pair.prompt_ids =
          before.empty()
              ? std::vector<int64_t>{}
              : encode_messages(tokenizer, before, /*add_generation_prompt=*/false, prompt.tools);
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
    return encode_messages(tokenizer, text.messages, /*add_generation_prompt=*/false, text.tools);
  auto ids = tokenizer.encode(text.text, {.parse_special = false, .add_special_tokens = true});
  if (add_eos) append_eos(tokenizer, ids);
  return ids;
}

}  // namespace meed
