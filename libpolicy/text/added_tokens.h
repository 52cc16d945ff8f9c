#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "libpolicy/text/normalizer.h"

namespace meed {

/// A token that is cut out of the text before it is split into words.
struct AddedToken {
  std::string content;
  std::string written = {};  ///< what decoding writes; set by AddedTokens::finish
  int64_t id = -1;
  bool special = false, single_word = false, lstrip = false, rstrip = false, normalized = false;
};

/// All added tokens of a tokenizer and the search for them. Thread-safe once built.
class AddedTokens {
 public:
  /// A known content is ignored, as tokenizers does.
  void add(AddedToken token);
  /// Builds the search. `normalizer` may be null.
  void finish(const Normalizer* normalizer);

  const std::vector<AddedToken>& all() const { return tokens_; }
  const AddedToken* find(std::string_view content) const;
  const AddedToken* find(int64_t id) const;
  int64_t largest_id() const { return largest_id_; }
  /// Whether the text of any special token occurs in `text`.
  bool has_special(std::string_view text) const;
  bool has_normalized_special() const { return normalized_special_; }

  /// A stretch of text (token is null) or a token found.
  struct Piece {
    size_t begin, end;
    const AddedToken* token;
  };
  /// How many bytes of the range are trusted: a special token may stand where all are.
  using Trusted = std::function<size_t(size_t begin, size_t end)>;
  std::vector<Piece> split(std::string_view text, bool normalized, const Trusted& trusted) const;

 private:
  /// Patterns by first byte, longest first: leftmost-longest search.
  struct Search {
    struct Pattern {
      std::string text;
      size_t token;
    };
    std::vector<Pattern> by_byte[256];
    bool empty = true;
    void add(std::string text, size_t token);
    /// The longest pattern at `position`, or null.
    const Pattern* at(std::string_view text, size_t position) const;
  };
  std::vector<AddedToken> tokens_;
  std::unordered_map<std::string, size_t> by_content_;
  std::unordered_map<int64_t, size_t> by_id_;
  Search raw_, normalized_, special_;
  int64_t largest_id_ = -1;
  bool normalized_special_ = false;
};

}  // namespace meed
