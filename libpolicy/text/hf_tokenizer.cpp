#include "libpolicy/text/hf_tokenizer.h"

#include <algorithm>

#include "libpolicy/core/error.h"
#include "libpolicy/core/files.h"
#include "libpolicy/core/log.h"
#include "libpolicy/text/json_reader.h"
#include "libpolicy/text/text_pattern.h"
#include "libpolicy/text/unicode.h"

namespace meed {
namespace {

size_t all(size_t begin, size_t end) { return end - begin; }
size_t none(size_t, size_t) { return 0; }

AddedToken read_added_token(const JsonReader& json) {
  return {.content = json.at("content").string(),
          .special = json.boolean("special", false),
          .single_word = json.boolean("single_word", false),
          .lstrip = json.boolean("lstrip", false),
          .rstrip = json.boolean("rstrip", false),
          .normalized = json.boolean("normalized", !json.boolean("special", false))};
}

size_t common_prefix(std::string_view a, std::string_view b) {
  const auto [end, unused] = std::mismatch(a.begin(), a.end(), b.begin(), b.end());
  return static_cast<size_t>(end - a.begin());
}

size_t common_suffix(std::string_view a, std::string_view b) {
  const auto [end, unused] = std::mismatch(a.rbegin(), a.rend(), b.rbegin(), b.rend());
  return static_cast<size_t>(end - a.rbegin());
}

/// Which bytes of `normalized` come from trusted text only: an untrusted run of the source reaches
/// from where the normal form of what is before it ends to where that of what is after it begins.
std::string trust_of_normalized(std::string_view source, const AddedTokens::Trusted& trusted,
                                const Normalizer& normalizer, std::string_view normalized) {
  std::string mask(normalized.size(), 1);
  for (size_t begin = 0; begin < source.size();) {
    if (trusted(begin, begin + 1) == 1) {
      ++begin;
      continue;
    }
    size_t end = begin;
    while (end < source.size() && trusted(end, end + 1) == 0) ++end;
    std::string before(source.substr(0, begin)), after(source.substr(end));
    normalizer.apply(before);
    normalizer.apply(after);
    const size_t first = common_prefix(before, normalized);
    const size_t last = normalized.size() - common_suffix(after, normalized);
    for (size_t i = first; i < last; ++i) mask[i] = 0;
    begin = end;
  }
  return mask;
}

}  // namespace

HfTokenizer::HfTokenizer(TokenizerFiles files) : files_(std::move(files)) {
  const auto json = JsonReader::parse(files_.tokenizer_json, files_.name + "/tokenizer.json");
  if (const auto part = json.find("normalizer")) normalizer_ = make_normalizer(*part);
  if (const auto part = json.find("pre_tokenizer")) pre_tokenizer_ = make_pre_tokenizer(*part);
  if (const auto part = json.find("decoder")) decoder_ = make_token_decoder(*part);
  if (const auto part = json.find("post_processor")) post_processor_ = make_post_processor(*part);
  std::unordered_set<std::string> special;
  if (const auto part = json.find("added_tokens"))
    for (const auto& token : part->items())
      if (token.boolean("special", false)) special.insert(token.at("content").string());
  config_ = read_tokenizer_config(files_);
  for (const auto& token : config_.added) special.insert(token.content);
  for (const auto& [name, content] : config_.named_tokens) special.insert(content);
  model_ = make_token_model(json.at("model"), special);
  read_added_tokens(json);
  apply_config();
  added_.finish(normalizer_.get());
  load_chat_template();
}

void HfTokenizer::read_added_tokens(const JsonReader& json) {
  const auto part = json.find("added_tokens");
  if (!part) return;
  for (const auto& item : part->items()) {
    AddedToken token = read_added_token(item);
    const int64_t id = item.at("id").integer();
    const int64_t limit = vocab_size() + (1 << 20);
    if (id < 0 || id > limit)
      item.at("id").fail("the id " + std::to_string(id) + " of \"" + token.content +
                         "\" cannot be: the vocabulary has " +
                         std::to_string(model_->vocabulary().count()) + " tokens");
    token.id = id;
    added_.add(std::move(token));
  }
}

/// As tokenizers numbers them: the vocabulary's id, or the next free one.
void HfTokenizer::add_token(AddedToken token) {
  token.id = model_->vocabulary().id(token.content);
  if (token.id < 0) token.id = std::max(added_.largest_id() + 1, model_->vocabulary().size());
  added_.add(std::move(token));
}

void HfTokenizer::apply_config() {
  for (const auto& token : config_.added) add_token(token);
  for (const auto& [name, content] : config_.named_tokens)
    add_token({.content = content, .special = true});
  if (!config_.add_bos && !config_.add_eos) return;
  post_processor_ = {};
  const auto place = [&](std::optional<bool> wanted, const char* name, std::vector<int64_t>& side) {
    if (const auto id = named_id(name); id && wanted.value_or(false)) side.push_back(*id);
  };
  place(config_.add_bos, "bos_token", post_processor_.before);
  place(config_.add_eos, "eos_token", post_processor_.after);
}

void HfTokenizer::load_chat_template() {
  if (config_.chat_template.empty()) return;
  ChatTemplateOptions options{.tool_use = config_.tool_use_template,
                              .named_tokens = config_.named_tokens};
  for (const auto& token : added_.all()) {
    if (!token.special) continue;
    options.special_tokens.push_back(token.content);
    if (token.written != token.content) options.special_tokens.push_back(token.written);
  }
  try {
    chat_template_ = std::make_unique<ChatTemplate>(config_.chat_template, options);
  } catch (const DataError& e) {
    chat_template_error_ = files_.name + ": " + e.what();
  }
}

const ChatTemplate* HfTokenizer::chat_template() const {
  if (!chat_template_error_.empty()) throw DataError(chat_template_error_);
  return chat_template_.get();
}

std::optional<int64_t> HfTokenizer::named_id(const std::string& name) const {
  const auto found = config_.named_tokens.find(name);
  if (found == config_.named_tokens.end()) return std::nullopt;
  return token_to_id(found->second);
}

std::vector<int64_t> HfTokenizer::encode(std::string_view text,
                                         const EncodeOptions& options) const {
  std::string repaired;
  if (unicode::valid_prefix(text) != text.size()) text = repaired = unicode::replace_invalid(text);
  std::vector<int64_t> ids;
  if (options.add_special_tokens) ids = post_processor_.before;
  const bool parse = options.parse_special && !config_.split_special_tokens;
  append(text, parse ? all : none, /*mixed=*/false, ids);
  if (options.add_special_tokens)
    ids.insert(ids.end(), post_processor_.after.begin(), post_processor_.after.end());
  return ids;
}

std::vector<int64_t> HfTokenizer::encode(std::span<const Piece> pieces,
                                         bool add_special_tokens) const {
  std::string text;
  std::vector<std::pair<size_t, size_t>> ranges;  // trusted
  for (const auto& piece : pieces) {
    const size_t begin = text.size();
    text += unicode::replace_invalid(piece.text);
    if (!piece.trusted || text.size() == begin) continue;
    if (!ranges.empty() && ranges.back().second == begin)
      ranges.back().second = text.size();
    else
      ranges.emplace_back(begin, text.size());
  }
  const auto trusted = [&](size_t begin, size_t end) -> size_t {
    auto range = std::partition_point(ranges.begin(), ranges.end(),
                                      [&](const auto& r) { return r.second <= begin; });
    size_t bytes = 0;
    for (; range != ranges.end() && range->first < end; ++range)
      bytes += std::min(end, range->second) - std::max(begin, range->first);
    return bytes;
  };
  std::vector<int64_t> ids;
  if (add_special_tokens) ids = post_processor_.before;
  append(text, trusted, /*mixed=*/true, ids);
  if (add_special_tokens)
    ids.insert(ids.end(), post_processor_.after.begin(), post_processor_.after.end());
  return ids;
}

void HfTokenizer::append(std::string_view text, const AddedTokens::Trusted& trusted, bool mixed,
                         std::vector<int64_t>& ids) const {
  const auto session = model_->session();
  for (const auto& piece : added_.split(text, /*normalized=*/false, trusted)) {
    if (piece.token != nullptr) {
      ids.push_back(piece.token->id);
      continue;
    }
    const std::string_view source = text.substr(piece.begin, piece.end - piece.begin);
    std::string normalized(source);
    if (normalizer_) normalizer_->apply(normalized);
    AddedTokens::Trusted here = [&](size_t begin, size_t end) {
      return trusted(piece.begin + begin, piece.begin + end);
    };
    std::string mask;
    if (!mixed) {
      here = trusted;
    } else if (normalizer_ && added_.has_normalized_special() && normalized != source) {
      mask = trust_of_normalized(source, here, *normalizer_, normalized);
      here = [&](size_t begin, size_t end) {
        return static_cast<size_t>(std::count(mask.begin() + static_cast<ptrdiff_t>(begin),
                                              mask.begin() + static_cast<ptrdiff_t>(end), 1));
      };
    }
    for (const auto& part : added_.split(normalized, /*normalized=*/true, here)) {
      if (part.token != nullptr)
        ids.push_back(part.token->id);
      else
        append_words(std::string_view(normalized).substr(part.begin, part.end - part.begin),
                     piece.begin == 0 && part.begin == 0, *session, ids);
    }
  }
}

void HfTokenizer::append_words(std::string_view text, bool at_start, TokenModel::Session& session,
                               std::vector<int64_t>& ids) const {
  PreTokenizer::Work work;
  work.segments.push_back({text, at_start});
  if (pre_tokenizer_) pre_tokenizer_->apply(work);
  const bool bytes = pre_tokenizer_ && pre_tokenizer_->leaves_bytes();
  for (const auto& segment : work.segments) session.encode(segment.text, bytes, ids);
}

std::string HfTokenizer::decode(std::span<const int64_t> ids, bool skip_special_tokens) const {
  std::vector<std::string> tokens;
  tokens.reserve(ids.size());
  for (const int64_t id : ids) {
    const AddedToken* added = added_.find(id);
    if (added != nullptr) {
      if (!(skip_special_tokens && added->special)) tokens.push_back(added->written);
    } else if (model_->vocabulary().has(id)) {
      tokens.push_back(model_->vocabulary().token(id));
    }
  }
  std::string text;
  if (decoder_) {
    decoder_->decode(tokens);
    for (const auto& token : tokens) text += token;
  } else {
    for (const auto& token : tokens) text += (&token == tokens.data() ? "" : " ") + token;
  }
  if (config_.clean_up_spaces && !model_->is_bpe()) {
    constexpr std::pair<const char*, const char*> kRules[] = {
        {" .", "."},     {" ?", "?"},   {" !", "!"},   {" ,", ","},     {" ' ", "'"},
        {" n't", "n't"}, {" 'm", "'m"}, {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"}};
    for (const auto& [from, to] : kRules) TextPattern(std::string(from)).replace_all(text, to);
  }
  return text;
}

std::string HfTokenizer::token_bytes(int64_t id) const { return stream_bytes(id, /*first=*/false); }

std::string HfTokenizer::stream_bytes(int64_t id, bool first) const {
  const AddedToken* added = added_.find(id);
  const std::string& token = added != nullptr ? added->written : model_->vocabulary().token(id);
  return decoder_ ? decoder_->token_bytes(token, first) : (first ? "" : " ") + token;
}

int64_t HfTokenizer::vocab_size() const {
  return std::max(added_.largest_id() + 1, model_->vocabulary().size());
}

std::optional<int64_t> HfTokenizer::token_to_id(std::string_view token) const {
  if (const AddedToken* added = added_.find(token)) return added->id;
  const int64_t id = model_->vocabulary().id(token);
  return id < 0 ? std::nullopt : std::optional(id);
}

std::string HfTokenizer::id_to_token(int64_t id) const {
  if (const AddedToken* added = added_.find(id)) return added->content;
  return model_->vocabulary().token(id);
}

bool HfTokenizer::is_special(int64_t id) const {
  const AddedToken* added = added_.find(id);
  return added != nullptr && added->special;
}

}  // namespace meed
