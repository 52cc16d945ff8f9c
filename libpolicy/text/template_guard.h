#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "libpolicy/text/tokenizer.h"

namespace meed {

/// Keeps the text of messages from forging special tokens where a chat template takes it apart
/// (split, replace, tojson), so that the template engine no longer knows whose text it is: every
/// special token in a message gets a mark inside, and what touches a mark after rendering is not
/// trusted. Thread-safe.
class TemplateGuard {
 public:
  TemplateGuard() = default;
  explicit TemplateGuard(std::vector<std::string> special_tokens);

  /// A character that does not occur in `text`, of those that Unicode never assigns.
  static std::string free_mark(std::string_view text);
  /// `text` with `mark` behind the first character of each special token, whatever the case of its
  /// letters (a template may change it).
  std::string break_tokens(std::string_view text, std::string_view mark) const;
  /// Appends `text` without its marks, the characters beside each as text that is not trusted.
  static void append_pieces(std::string_view text, std::string_view mark, bool trusted,
                            std::vector<Tokenizer::Piece>& pieces);

 private:
  bool token_at(std::string_view lower, size_t position) const;

  std::vector<std::string> by_byte_[256];  ///< in lower case, by first byte
};

}  // namespace meed
