#include "libpolicy/text/template_guard.h"

#include <algorithm>

#include "libpolicy/core/error.h"
#include "libpolicy/text/unicode.h"

namespace meed {
namespace {

std::string ascii_lower(std::string_view text) {
  std::string lower(text);
  for (char& c : lower)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return lower;
}

/// Joins neighbours of one kind: the tokenizer cares where template text begins, not how it was put
/// together.
void append(std::string_view text, bool trusted, std::vector<Tokenizer::Piece>& pieces) {
  if (text.empty()) return;
  if (!pieces.empty() && pieces.back().trusted == trusted)
    pieces.back().text += text;
  else
    pieces.push_back({std::string(text), trusted});
}

}  // namespace

TemplateGuard::TemplateGuard(std::vector<std::string> special_tokens) {
  for (const auto& token : special_tokens) {
    if (token.empty()) continue;
    auto lower = ascii_lower(token);
    by_byte_[static_cast<uint8_t>(lower[0])].push_back(std::move(lower));
  }
}

std::string TemplateGuard::free_mark(std::string_view text) {
  constexpr char32_t kFirst = 0xFDD0, kLast = 0xFDED;  // noncharacters, for a program's own use
  for (char32_t c = kFirst; c <= kLast; ++c) {
    std::string mark;
    unicode::append(mark, c);
    if (text.find(mark) == std::string_view::npos) return mark;
  }
  throw DataError("chat template: the messages hold every one of U+FDD0 to U+FDED; remove them");
}

bool TemplateGuard::token_at(std::string_view lower, size_t position) const {
  const auto rest = lower.substr(position);
  const auto& tokens = by_byte_[static_cast<uint8_t>(rest[0])];
  return std::any_of(tokens.begin(), tokens.end(),
                     [&](const std::string& token) { return rest.starts_with(token); });
}

std::string TemplateGuard::break_tokens(std::string_view text, std::string_view mark) const {
  const std::string lower = ascii_lower(text);
  std::string broken;
  for (size_t position = 0; position < text.size();) {
    const size_t length =
        std::min(unicode::character_length(text[position]), text.size() - position);
    const bool token = token_at(lower, position);
    broken += text.substr(position, length);
    position += length;
    if (token) broken += mark;
  }
  return broken;
}

void TemplateGuard::append_pieces(std::string_view text, std::string_view mark, bool trusted,
                                  std::vector<Tokenizer::Piece>& pieces) {
  for (;;) {
    const size_t end = mark.empty() ? std::string_view::npos : text.find(mark);
    if (end == std::string_view::npos) return append(text, trusted, pieces);
    // A token of one character has its only character before the mark.
    size_t last = end;
    while (last > 0 && (static_cast<unsigned char>(text[--last]) & 0xC0) == 0x80) {
    }
    append(text.substr(0, last), trusted, pieces);
    append(text.substr(last, end - last), /*trusted=*/false, pieces);
    text.remove_prefix(end + mark.size());
    if (text.empty() || text.starts_with(mark)) continue;
    const size_t length = std::min(unicode::character_length(text[0]), text.size());
    append(text.substr(0, length), /*trusted=*/false, pieces);
    text.remove_prefix(length);
  }
}

}  // namespace meed
