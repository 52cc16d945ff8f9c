#include "libpolicy/text/added_tokens.h"

#include <algorithm>

#include "libpolicy/text/unicode.h"

namespace meed {
namespace {

bool starts_with_word(std::string_view text) {
  size_t position = 0;
  return !text.empty() && unicode::is_word(unicode::next(text, position));
}

size_t previous_character(std::string_view text, size_t position) {
  do --position;
  while (position > 0 && (static_cast<unsigned char>(text[position]) & 0xC0) == 0x80);
  return position;
}

bool ends_with_word(std::string_view text) {
  return !text.empty() && starts_with_word(text.substr(previous_character(text, text.size())));
}

/// Where the white space that ends at `position` begins.
size_t spaces_before(std::string_view text, size_t position) {
  while (position > 0) {
    const size_t before = previous_character(text, position);
    size_t at = before;
    if (!unicode::is_space(unicode::next(text, at))) break;
    position = before;
  }
  return position;
}

size_t spaces_after(std::string_view text, size_t position) {
  while (position < text.size()) {
    size_t after = position;
    if (!unicode::is_space(unicode::next(text, after))) break;
    position = after;
  }
  return position;
}

}  // namespace

void AddedTokens::Search::add(std::string text, size_t token) {
  if (text.empty()) return;
  auto& patterns = by_byte[static_cast<uint8_t>(text[0])];
  const auto longer = [&](const Pattern& other) { return other.text.size() >= text.size(); };
  patterns.insert(std::find_if_not(patterns.begin(), patterns.end(), longer), {text, token});
  empty = false;
}

const AddedTokens::Search::Pattern* AddedTokens::Search::at(std::string_view text,
                                                            size_t position) const {
  const std::string_view rest = text.substr(position);
  for (const auto& pattern : by_byte[static_cast<uint8_t>(rest[0])])
    if (rest.starts_with(pattern.text)) return &pattern;
  return nullptr;
}

void AddedTokens::add(AddedToken token) {
  if (token.content.empty() || by_content_.contains(token.content)) return;
  largest_id_ = std::max(largest_id_, token.id);
  by_content_[token.content] = tokens_.size();
  by_id_[token.id] = tokens_.size();
  tokens_.push_back(std::move(token));
}

void AddedTokens::finish(const Normalizer* normalizer) {
  raw_ = normalized_ = special_ = {};
  normalized_special_ = false;
  for (size_t i = 0; i < tokens_.size(); ++i) {
    AddedToken& token = tokens_[i];
    token.written = token.content;
    if (token.special) special_.add(token.content, i);
    if (!token.normalized) {
      raw_.add(token.content, i);
      continue;
    }
    std::string content = token.content;
    if (normalizer != nullptr) normalizer->apply(content);
    token.written = content;  // as tokenizers has it
    if (token.special) special_.add(content, i);
    normalized_.add(std::move(content), i);
    normalized_special_ = normalized_special_ || token.special;
  }
}

const AddedToken* AddedTokens::find(std::string_view content) const {
  const auto found = by_content_.find(std::string(content));
  return found == by_content_.end() ? nullptr : &tokens_[found->second];
}

const AddedToken* AddedTokens::find(int64_t id) const {
  const auto found = by_id_.find(id);
  return found == by_id_.end() ? nullptr : &tokens_[found->second];
}

bool AddedTokens::has_special(std::string_view text) const {
  for (size_t position = 0; position < text.size(); ++position)
    if (special_.at(text, position) != nullptr) return true;
  return false;
}

std::vector<AddedTokens::Piece> AddedTokens::split(std::string_view text, bool normalized,
                                                   const Trusted& trusted) const {
  const Search& search = normalized ? normalized_ : raw_;
  std::vector<Piece> pieces;
  size_t done = 0;  // everything before is in `pieces`
  for (size_t position = search.empty ? text.size() : 0; position < text.size();) {
    const auto* pattern = search.at(text, position);
    if (pattern == nullptr) {
      ++position;
      continue;
    }
    const AddedToken& token = tokens_[pattern->token];
    size_t begin = position, end = position + pattern->text.size();
    if (token.special) {
      const size_t vouched = trusted(begin, end);
      if (vouched < end - begin) {
        // Text that nobody vouches for is passed over whole, as tokenizers' encode_special_tokens
        // does. Where it reaches into a template's text, the template's own token may follow.
        position = vouched == 0 ? end : position + 1;
        continue;
      }
    }
    position = end;
    if (token.single_word &&
        (ends_with_word(text.substr(0, begin)) || starts_with_word(text.substr(end))))
      continue;
    if (token.lstrip) begin = std::max(spaces_before(text, begin), done);
    if (token.rstrip) end = spaces_after(text, end);
    if (begin > done) pieces.push_back({done, begin, nullptr});
    pieces.push_back({begin, end, &token});
    // The search goes on behind the token itself, so that a token may be found once more in white
    // space that this one has taken, as in tokenizers.
    done = end;
  }
  if (done < text.size()) pieces.push_back({done, text.size(), nullptr});
  return pieces;
}

}  // namespace meed
