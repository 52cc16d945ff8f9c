#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

/// Unicode as Hugging Face's tokenizers sees it (scripts/make_unicode_tables.py says where from).
namespace meed::unicode {

constexpr char32_t kReplacement = 0xFFFD;

/// Decodes the code point at `position` of valid UTF-8 and moves behind it.
char32_t next(std::string_view text, size_t& position);
/// Bytes of the UTF-8 character that starts with `lead`.
inline size_t character_length(char lead) {
  const auto byte = static_cast<unsigned char>(lead);
  if (byte < 0x80) return 1;
  if (byte < 0xE0) return 2;
  return byte < 0xF0 ? 3 : 4;
}
void append(std::string& text, char32_t code_point);
std::u32string decode(std::string_view valid_utf8);
std::string encode(std::u32string_view text);

/// Length of the longest prefix that is valid UTF-8.
size_t valid_prefix(std::string_view bytes);
/// What follows a valid prefix: a character cut short by the end of `bytes`, not a wrong one.
bool incomplete_at_end(std::string_view rest);
/// Each maximal wrong part becomes U+FFFD, as Python's errors="replace" and Rust's from_utf8_lossy do.
std::string replace_invalid(std::string_view bytes);

/// General categories; `mask(kLu)` and unions of masks select several.
enum Category : uint8_t {
  kCn, kLu, kLl, kLt, kLm, kLo, kMn, kMc, kMe, kNd, kNl, kNo, kPc, kPd, kPs,
  kPe, kPi, kPf, kPo, kSm, kSc, kSk, kSo, kZs, kZl, kZp, kCc, kCf, kCo
};
Category category(char32_t code_point);
constexpr uint32_t mask(Category value) { return uint32_t{1} << value; }
/// Bits of "L", "Lu", "Letter"-like names as in \p{...}; 0 if unknown.
uint32_t category_mask(std::string_view name);

/// Sets that are not unions of categories.
enum class Set { kWord, kHan, kBertRemoved, kAccent, kBertAccent, kBertPunctuation, kNumeric };
bool contains(Set set, char32_t code_point);
bool is_space(char32_t code_point);
/// \w as Rust's regular expressions have it; Set::kWord is Oniguruma's.
bool is_word(char32_t code_point);
bool is_chinese(char32_t code_point);  ///< BERT's ranges.

enum class Form { kNfc, kNfd, kNfkc, kNfkd };
std::u32string normalize(std::u32string_view text, Form form);
/// Whether no character of `text` can change under `form`: a quick check that may say no too often.
bool surely_normal(std::string_view text, Form form);
/// Appends the lower case of one code point (may be several).
void append_lower(std::u32string& text, char32_t code_point);

}  // namespace meed::unicode
