#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

/// What Regex compiles to; shared by its parser and its matcher.
namespace meed::regex {

/// A set of code points. ASCII is answered from a bitmap, the rest from ranges and categories.
class CharSet {
 public:
  void add(char32_t first, char32_t last);
  void add_categories(uint32_t mask) { categories_ |= mask; }
  enum class Named : uint8_t { kSpace, kWord, kHan, kHexDigit };
  void add_named(Named name) { named_.push_back(name); }
  void add_set(CharSet other) { nested_.push_back(std::move(other)); }
  /// Keeps only what is also in `other`.
  void intersect(CharSet other) { required_.push_back(std::move(other)); }
  void negate() { negated_ = !negated_; }
  void ignore_case() { ignore_case_ = true; }
  /// Fills the bitmap; call once when complete.
  void finish();
  bool contains(char32_t c) const {
    return c < 128 ? (ascii_[c / 64] >> (c % 64) & 1) != 0 : computed(c);
  }
  bool ascii(char c) const { return contains(static_cast<unsigned char>(c)); }

 private:
  bool computed(char32_t c) const;
  bool has(char32_t c) const;
  std::array<uint64_t, 2> ascii_{};
  std::vector<std::pair<char32_t, char32_t>> ranges_;
  std::vector<Named> named_;
  std::vector<CharSet> nested_, required_;
  uint32_t categories_ = 0;
  bool negated_ = false, ignore_case_ = false;
};

enum class Kind : uint8_t { kSet, kAlternatives, kRepeat, kLook, kLineStart, kLineEnd, kTextStart,
                            kTextEnd, kTextEndOrNewline, kWordBoundary };
constexpr int kNone = -1;
constexpr int kUnlimited = 1 << 30;

/// One element of a sequence; `next` follows it, kNone ends the sequence.
struct Node {
  Kind kind;
  int next = kNone;
  int set = kNone;            ///< kSet: index of its CharSet
  int min = 1, max = 1;       ///< kSet, kRepeat
  bool lazy = false, possessive = false;
  bool negated = false, behind = false;  ///< kLook; kWordBoundary: negated
  std::vector<int> branches = {};  ///< kAlternatives: first nodes; kRepeat, kLook: one
};

struct Compiled {
  std::vector<Node> nodes;
  std::vector<CharSet> sets;
  int start = kNone;
};

/// Throws DataError.
Compiled compile(const std::string& pattern);

}  // namespace meed::regex
