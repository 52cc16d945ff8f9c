#include "libpolicy/text/unicode.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <unordered_map>

namespace meed::unicode {
namespace {

#include "libpolicy/text/unicode_tables.inc"

constexpr char32_t kEnd = 0x110000;
constexpr const char* kCategoryNames[] = {"Cn", "Lu", "Ll", "Lt", "Lm", "Lo", "Mn", "Mc", "Me", "Nd",
                                          "Nl", "No", "Pc", "Pd", "Ps", "Pe", "Pi", "Pf", "Po", "Sm",
                                          "Sc", "Sk", "So", "Zs", "Zl", "Zp", "Cc", "Cf", "Co"};

/// Reads the numbers of a table one after the other.
class Numbers {
 public:
  explicit Numbers(const char* text) : at_(text) {}
  bool more() {
    while (*at_ == ' ') ++at_;
    return *at_ != '\0';
  }
  char32_t next() {
    char* end = nullptr;
    const auto value = static_cast<char32_t>(std::strtoul(at_, &end, 16));
    at_ = end;
    return value;
  }

 private:
  const char* at_;
};

std::vector<uint8_t> expand_runs(const char* table) {
  std::vector<uint8_t> values(kEnd, 0);
  Numbers numbers(table);
  for (char32_t position = 0; numbers.more();) {
    position += numbers.next();
    const char32_t length = numbers.next();
    std::fill_n(values.begin() + position, length, static_cast<uint8_t>(numbers.next()));
    position += length;
  }
  return values;
}

std::vector<bool> expand_set(const char* table) {
  std::vector<bool> values(kEnd, false);
  Numbers numbers(table);
  for (char32_t position = 0; numbers.more();) {
    position += numbers.next();
    const char32_t length = numbers.next();
    std::fill_n(values.begin() + position, length, true);
    position += length;
  }
  return values;
}

using Mapping = std::unordered_map<char32_t, std::u32string>;

Mapping expand_map(const char* table) {
  Mapping mapping;
  Numbers numbers(table);
  for (char32_t key = 0; numbers.more();) {
    key += numbers.next();
    std::u32string value(numbers.next(), 0);
    for (auto& c : value) c = numbers.next();
    mapping.emplace(key, std::move(value));
  }
  return mapping;
}

std::unordered_map<uint64_t, char32_t> expand_compositions() {
  std::unordered_map<uint64_t, char32_t> pairs;
  Numbers numbers(kCompositions);
  for (char32_t composite = 0; numbers.more();) {
    composite += numbers.next();
    const uint64_t first = numbers.next();
    pairs[first << 32 | numbers.next()] = composite;
  }
  return pairs;
}

const std::vector<uint8_t>& combining_classes() {
  static const auto table = expand_runs(kCombiningRuns);
  return table;
}

constexpr char32_t kHangulBase = 0xAC00, kLeadBase = 0x1100, kVowelBase = 0x1161, kTailBase = 0x11A7;
constexpr char32_t kLeads = 19, kVowels = 21, kTails = 28, kSyllables = kLeads * kVowels * kTails;

void decompose(char32_t c, bool compatible, std::u32string& out) {
  static const auto canonical = expand_map(kCanonical);
  static const auto compatibility = expand_map(kCompatible);
  if (c >= kHangulBase && c < kHangulBase + kSyllables) {
    const char32_t index = c - kHangulBase;
    out += kLeadBase + index / (kVowels * kTails);
    out += kVowelBase + index % (kVowels * kTails) / kTails;
    if (index % kTails != 0) out += kTailBase + index % kTails;
    return;
  }
  if (compatible) {
    if (const auto found = compatibility.find(c); found != compatibility.end()) {
      out += found->second;
      return;
    }
  }
  if (const auto found = canonical.find(c); found != canonical.end())
    out += found->second;
  else
    out += c;
}

/// The composite of two characters, or 0.
char32_t compose_pair(char32_t first, char32_t second) {
  static const auto pairs = expand_compositions();
  if (first >= kLeadBase && first < kLeadBase + kLeads && second >= kVowelBase &&
      second < kVowelBase + kVowels)
    return kHangulBase + ((first - kLeadBase) * kVowels + (second - kVowelBase)) * kTails;
  if (first >= kHangulBase && first < kHangulBase + kSyllables &&
      (first - kHangulBase) % kTails == 0 && second > kTailBase && second < kTailBase + kTails)
    return first + (second - kTailBase);
  const auto found = pairs.find(uint64_t{first} << 32 | second);
  return found == pairs.end() ? 0 : found->second;
}

std::u32string compose(const std::u32string& text) {
  const auto& classes = combining_classes();
  std::u32string out;
  size_t starter = std::u32string::npos;
  int last_class = -1;  // of the last character kept since the starter; -1: none
  for (const char32_t c : text) {
    const int combining = classes[c];
    if (starter != std::u32string::npos && last_class < combining) {
      if (const char32_t composite = compose_pair(out[starter], c)) {
        out[starter] = composite;
        continue;
      }
    }
    if (combining == 0) {
      starter = out.size();
      last_class = -1;
    } else {
      last_class = combining;
    }
    out += c;
  }
  return out;
}

}  // namespace

char32_t next(std::string_view text, size_t& position) {
  const auto byte = [&](size_t offset) -> char32_t {
    return static_cast<unsigned char>(text[position + offset]) & 0x3F;
  };
  const auto lead = static_cast<unsigned char>(text[position]);
  const size_t length = std::min(character_length(text[position]), text.size() - position);
  char32_t c = lead;
  if (length == 2)
    c = (lead & 0x1Fu) << 6 | byte(1);
  else if (length == 3)
    c = (lead & 0x0Fu) << 12 | byte(1) << 6 | byte(2);
  else if (length == 4)
    c = (lead & 0x07u) << 18 | byte(1) << 12 | byte(2) << 6 | byte(3);
  position += length;
  return c;
}

void append(std::string& text, char32_t c) {
  if (c < 0x80) {
    text += static_cast<char>(c);
  } else if (c < 0x800) {
    text += static_cast<char>(0xC0 | c >> 6);
    text += static_cast<char>(0x80 | (c & 0x3F));
  } else if (c < 0x10000) {
    text += static_cast<char>(0xE0 | c >> 12);
    text += static_cast<char>(0x80 | (c >> 6 & 0x3F));
    text += static_cast<char>(0x80 | (c & 0x3F));
  } else {
    text += static_cast<char>(0xF0 | c >> 18);
    text += static_cast<char>(0x80 | (c >> 12 & 0x3F));
    text += static_cast<char>(0x80 | (c >> 6 & 0x3F));
    text += static_cast<char>(0x80 | (c & 0x3F));
  }
}

std::u32string decode(std::string_view text) {
  std::u32string out;
  out.reserve(text.size());
  for (size_t position = 0; position < text.size();) out += next(text, position);
  return out;
}

std::string encode(std::u32string_view text) {
  std::string out;
  out.reserve(text.size());
  for (const char32_t c : text) append(out, c);
  return out;
}

namespace {

/// Length of a valid character at the start of `bytes`, or 0; then `wrong` is the length of the
/// maximal wrong part and `cut` says that only the end of `bytes` makes it wrong.
size_t valid_character(std::string_view bytes, size_t& wrong, bool& cut) {
  const auto at = [&](size_t i) { return static_cast<unsigned char>(bytes[i]); };
  const unsigned char lead = at(0);
  cut = false;
  wrong = 1;
  if (lead < 0x80) return 1;
  if (lead < 0xC2 || lead > 0xF4) return 0;
  const size_t length = character_length(bytes[0]);
  for (size_t i = 1; i < length; ++i) {
    if (i == bytes.size()) {
      cut = true;
      wrong = i;
      return 0;
    }
    unsigned char low = 0x80, high = 0xBF;
    if (i == 1) {  // no overlong forms, no surrogates, nothing above U+10FFFF
      if (lead == 0xE0) low = 0xA0;
      if (lead == 0xED) high = 0x9F;
      if (lead == 0xF0) low = 0x90;
      if (lead == 0xF4) high = 0x8F;
    }
    if (at(i) < low || at(i) > high) {
      wrong = i;
      return 0;
    }
  }
  return length;
}

}  // namespace

size_t valid_prefix(std::string_view bytes) {
  size_t position = 0, wrong = 0;
  bool cut = false;
  while (position < bytes.size()) {
    const size_t length = valid_character(bytes.substr(position), wrong, cut);
    if (length == 0) break;
    position += length;
  }
  return position;
}

bool incomplete_at_end(std::string_view rest) {
  size_t wrong = 0;
  bool cut = false;
  return !rest.empty() && valid_character(rest, wrong, cut) == 0 && cut;
}

std::string replace_invalid(std::string_view bytes) {
  std::string out;
  while (!bytes.empty()) {
    const size_t valid = valid_prefix(bytes);
    out += bytes.substr(0, valid);
    bytes.remove_prefix(valid);
    if (bytes.empty()) break;
    size_t wrong = 0;
    bool cut = false;
    valid_character(bytes, wrong, cut);
    append(out, kReplacement);
    bytes.remove_prefix(wrong);
  }
  return out;
}

Category category(char32_t c) {
  static const auto table = expand_runs(kCategoryRuns);
  return c < kEnd ? static_cast<Category>(table[c]) : kCn;
}

uint32_t category_mask(std::string_view name) {
  constexpr std::pair<std::string_view, std::string_view> kLongNames[] = {
      {"Letter", "L"}, {"Mark", "M"},           {"Number", "N"},      {"Punctuation", "P"},
      {"Symbol", "S"}, {"Separator", "Z"},      {"Other", "C"},       {"Uppercase_Letter", "Lu"},
      {"Punct", "P"},  {"Lowercase_Letter", "Ll"}, {"Decimal_Number", "Nd"}, {"Digit", "Nd"}};
  for (const auto& [longer, shorter] : kLongNames)
    if (name == longer) name = shorter;
  uint32_t bits = 0;
  for (size_t i = 0; i < std::size(kCategoryNames); ++i)
    if (!name.empty() && std::string_view(kCategoryNames[i]).starts_with(name)) bits |= 1u << i;
  return bits;
}

bool contains(Set set, char32_t c) {
  static const std::array tables = {
      expand_set(kWordRuns),       expand_set(kHanRuns),
      expand_set(kBertRemovedRuns), expand_set(kAccentRuns),
      expand_set(kBertAccentRuns), expand_set(kBertPunctuationRuns), expand_set(kNumericRuns)};
  return c < kEnd && tables[static_cast<size_t>(set)][c];
}

bool is_space(char32_t c) {
  if (c < 0x80) return c == ' ' || (c >= 9 && c <= 13);
  return c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 ||
         c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

bool is_word(char32_t c) {
  constexpr char32_t kNonJoiner = 0x200C, kJoiner = 0x200D;
  return (contains(Set::kWord, c) && category(c) != kNo) || c == kNonJoiner || c == kJoiner;
}

bool is_chinese(char32_t c) {
  return (c >= 0x4E00 && c <= 0x9FFF) || (c >= 0x3400 && c <= 0x4DBF) ||
         (c >= 0x20000 && c <= 0x2A6DF) || (c >= 0x2A700 && c <= 0x2B73F) ||
         (c >= 0x2B740 && c <= 0x2B81F) || (c >= 0x2B920 && c <= 0x2CEAF) ||
         (c >= 0xF900 && c <= 0xFAFF) || (c >= 0x2F800 && c <= 0x2FA1F);
}

std::u32string normalize(std::u32string_view text, Form form) {
  const bool compatible = form == Form::kNfkc || form == Form::kNfkd;
  std::u32string out;
  for (const char32_t c : text) decompose(c, compatible, out);
  const auto& classes = combining_classes();
  for (size_t begin = 0; begin < out.size();) {  // canonical order within each run of marks
    if (classes[out[begin]] == 0) {
      ++begin;
      continue;
    }
    size_t end = begin;
    while (end < out.size() && classes[out[end]] != 0) ++end;
    std::stable_sort(out.begin() + static_cast<ptrdiff_t>(begin),
                     out.begin() + static_cast<ptrdiff_t>(end),
                     [&](char32_t a, char32_t b) { return classes[a] < classes[b]; });
    begin = end;
  }
  return form == Form::kNfc || form == Form::kNfkc ? compose(out) : out;
}

bool surely_normal(std::string_view text, Form form) {
  // Below U+00A0 nothing changes; below U+0300 nothing composes with what is before it.
  const unsigned char limit = form == Form::kNfc ? 0xCC : 0xC2;
  return std::all_of(text.begin(), text.end(), [&](char c) {
    const auto byte = static_cast<unsigned char>(c);
    return byte < 0xC0 ? byte < 0x80 || form == Form::kNfc : byte < limit;
  });
}

void append_lower(std::u32string& text, char32_t c) {
  static const auto lower = expand_map(kLower);
  if (c < 0x80) {
    text += c >= 'A' && c <= 'Z' ? c + 32 : c;
    return;
  }
  const auto found = lower.find(c);
  if (found == lower.end())
    text += c;
  else
    text += found->second;
}

}  // namespace meed::unicode
