#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace meed {

/// The regular expressions of tokenizer.json files, with Oniguruma's (Ruby's) meaning and the Unicode
/// data of libpolicy/text/unicode.h: alternation, groups, (?i:), classes with \p{..}, && and nesting,
/// greedy, lazy and possessive repeats, look-ahead, look-behind of one character, anchors.
/// Matching is safe to call from several threads.
class Regex {
 public:
  /// Throws DataError that shows the pattern and the place of what is wrong or not supported.
  explicit Regex(const std::string& pattern);
  ~Regex();

  struct Match {
    size_t begin, end;  ///< byte offsets
  };
  /// All matches from left to right in valid UTF-8. Throws DataError when the pattern backtracks
  /// without end on this text.
  std::vector<Match> find_all(std::string_view text) const;
  const std::string& pattern() const { return pattern_; }

 private:
  struct Program;
  std::string pattern_;
  std::unique_ptr<const Program> program_;
};

}  // namespace meed
