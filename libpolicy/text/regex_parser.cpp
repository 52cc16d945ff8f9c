#include <algorithm>
#include <optional>

#include "libpolicy/core/error.h"
#include "libpolicy/text/regex_program.h"
#include "libpolicy/text/unicode.h"

namespace meed::regex {

void CharSet::add(char32_t first, char32_t last) { ranges_.emplace_back(first, last); }

bool CharSet::has(char32_t c) const {
  for (const auto& [first, last] : ranges_)
    if (c >= first && c <= last) return true;
  if (categories_ != 0 && (categories_ >> unicode::category(c) & 1) != 0) return true;
  for (const Named name : named_) {
    if (name == Named::kSpace && unicode::is_space(c)) return true;
    if (name == Named::kWord && unicode::contains(unicode::Set::kWord, c)) return true;
    if (name == Named::kHan && unicode::contains(unicode::Set::kHan, c)) return true;
    if (name == Named::kHexDigit && c < 128 && std::isxdigit(static_cast<int>(c))) return true;
  }
  return std::any_of(nested_.begin(), nested_.end(),
                     [&](const CharSet& set) { return set.computed(c); });
}

bool CharSet::computed(char32_t c) const {
  bool found = has(c);
  if (!found && ignore_case_) {
    std::u32string lower;
    unicode::append_lower(lower, c);
    if (c == 0x17F) lower = U"s";  // the long s
    if (lower.size() == 1) {
      found = has(lower[0]) || (lower[0] >= 'a' && lower[0] <= 'z' && has(lower[0] - 32));
      if (!found && lower[0] == 's') found = has(0x17F);
      if (!found && lower[0] == 'k') found = has(0x212A);  // the Kelvin sign
    }
  }
  for (const CharSet& set : required_) found = found && set.computed(c);
  return found != negated_;
}

void CharSet::finish() {
  for (char32_t c = 0; c < 128; ++c)
    if (computed(c)) ascii_[c / 64] |= uint64_t{1} << (c % 64);
}

namespace {

constexpr int kMaxDepth = 64;

class Parser {
 public:
  explicit Parser(const std::string& pattern) : pattern_(pattern) {
    if (unicode::valid_prefix(pattern) != pattern.size()) fail("not valid UTF-8");
    text_ = unicode::decode(pattern);
  }

  Compiled parse() {
    out_.start = alternatives();
    if (at_ < text_.size()) fail("unmatched )");
    for (auto& set : out_.sets) set.finish();
    return std::move(out_);
  }

 private:
  [[noreturn]] void fail(const std::string& what) const {
    throw DataError("regular expression \"" + pattern_ + "\", character " +
                    std::to_string(at_ + 1) + ": " + what);
  }
  bool done() const { return at_ >= text_.size(); }
  bool take(char32_t c) {
    if (done() || text_[at_] != c) return false;
    ++at_;
    return true;
  }
  bool take(std::u32string_view word) {
    if (std::u32string_view(text_).substr(at_, word.size()) != word) return false;
    at_ += word.size();
    return true;
  }
  char32_t get() {
    if (done()) fail("ends too early");
    return text_[at_++];
  }
  int add(Node node) {
    out_.nodes.push_back(std::move(node));
    return static_cast<int>(out_.nodes.size()) - 1;
  }
  int add_set(CharSet set) {
    if (ignore_case_) set.ignore_case();
    out_.sets.push_back(std::move(set));
    return add({.kind = Kind::kSet, .set = static_cast<int>(out_.sets.size()) - 1});
  }

  /// One node, or a chain; its first node (kNone when empty).
  int alternatives() {
    if (++depth_ > kMaxDepth) fail("groups nested too deeply");
    const bool outer_case = ignore_case_;
    std::vector<int> branches = {sequence()};
    while (take(U'|')) branches.push_back(sequence());
    ignore_case_ = outer_case;
    --depth_;
    if (branches.size() == 1) return branches[0];
    return add({.kind = Kind::kAlternatives, .branches = std::move(branches)});
  }

  int sequence() {
    int first = kNone, last = kNone;
    while (!done() && text_[at_] != U'|' && text_[at_] != U')') {
      const std::optional<int> atom = repeated_atom();
      if (!atom) continue;
      if (first == kNone)
        first = *atom;
      else
        out_.nodes[last].next = *atom;
      last = *atom;
    }
    return first;
  }

  std::optional<int> repeated_atom() {
    std::optional<int> node = atom();
    if (!node) return node;
    while (!done()) {
      int min = 0, max = 0;
      const size_t before = at_;
      if (take(U'*')) {
        max = kUnlimited;
      } else if (take(U'+')) {
        min = 1;
        max = kUnlimited;
      } else if (take(U'?')) {
        max = 1;
      } else if (!counts(min, max)) {
        break;
      }
      const bool braces = text_[before] == U'{';
      const bool lazy = take(U'?');
      // Ruby: {n,m}+ is a repeat of the repeat, not a possessive one.
      const bool possessive = !lazy && !braces && take(U'+');
      node = repeat(*node, min, max, lazy, possessive);
    }
    return node;
  }

  int repeat(int node, int min, int max, bool lazy, bool possessive) {
    Node& inner = out_.nodes[node];
    if (inner.kind == Kind::kSet && inner.min == 1 && inner.max == 1) {
      inner.min = min;
      inner.max = max;
      inner.lazy = lazy;
      inner.possessive = possessive;
      return node;
    }
    return add({.kind = Kind::kRepeat, .min = min, .max = max, .lazy = lazy,
                .possessive = possessive, .branches = {node}});
  }

  bool counts(int& min, int& max) {
    const size_t before = at_;
    if (!take(U'{')) return false;
    const auto number = [&](int missing) {
      int value = -1;
      while (!done() && text_[at_] >= U'0' && text_[at_] <= U'9' && value < 100000)
        value = std::max(value, 0) * 10 + static_cast<int>(get() - U'0');
      return value < 0 ? missing : value;
    };
    const size_t first_digit = at_;
    min = number(0);
    const bool has_min = at_ > first_digit;
    if (take(U'}') && has_min) {
      max = min;
      return true;
    }
    if (take(U',')) {
      max = number(kUnlimited);
      if (take(U'}') && (has_min || max != kUnlimited)) {
        if (max < min) fail("repeat count: the upper limit is below the lower");
        return true;
      }
    }
    at_ = before;  // a literal brace
    return false;
  }

  std::optional<int> atom() {
    const char32_t c = get();
    CharSet set;
    switch (c) {
      case U'(': return group();
      case U'[': return add_set(char_class());
      case U'.':
        set.add('\n', '\n');
        set.negate();
        return add_set(std::move(set));
      case U'^': return add({.kind = Kind::kLineStart});
      case U'$': return add({.kind = Kind::kLineEnd});
      case U'\\': return escape_atom();
      case U'*':
      case U'+':
      case U'?': --at_; fail("nothing to repeat");
      default: set.add(c, c); return add_set(std::move(set));
    }
  }

  std::optional<int> group() {
    Node look{.kind = Kind::kLook};
    bool is_look = false, atomic = false;
    const bool outer_case = ignore_case_;
    if (take(U'?')) {
      if (take(U"<=") || take(U"<!")) {
        is_look = look.behind = true;
        look.negated = text_[at_ - 1] == U'!';
      } else if (take(U'=') || take(U'!')) {
        is_look = true;
        look.negated = text_[at_ - 1] == U'!';
      } else if (take(U'>')) {
        atomic = true;
      } else if (take(U'#')) {
        while (get() != U')') {
        }
        return std::nullopt;
      } else if (take(U'<') || take(U"P<")) {
        while (get() != U'>') {
        }
      } else if (!take(U':') && options()) {
        return std::nullopt;
      }
    }
    const int body = alternatives();
    ignore_case_ = outer_case;
    if (!take(U')')) fail("missing )");
    if (is_look) {
      if (look.behind && !(body != kNone && out_.nodes[body].kind == Kind::kSet &&
                           out_.nodes[body].next == kNone && out_.nodes[body].min == 1 &&
                           out_.nodes[body].max == 1))
        fail("look-behind of more than one character is not supported");
      look.branches = {body};
      return add(std::move(look));
    }
    if (body == kNone) return std::nullopt;
    if (!atomic && out_.nodes[body].next == kNone) return body;
    return add({.kind = atomic ? Kind::kRepeat : Kind::kAlternatives, .possessive = atomic,
                .branches = {body}});
  }

  /// (?i) or (?i: ; true when the group ends at once and the options hold for the rest.
  bool options() {
    bool on = true;
    for (;;) {
      const char32_t c = get();
      if (c == U'-') on = false;
      else if (c == U'i') ignore_case_ = on;
      else if (c == U':') return false;
      else if (c == U')') return true;
      else if (c != U's' && c != U'm' && c != U'x' && c != U'u') fail("unknown group option");
      else if (c != U'u' && on) fail("group option is not supported");
    }
  }

  int escape_atom() {
    const char32_t c = get();
    switch (c) {
      case U'A': return add({.kind = Kind::kTextStart});
      case U'z': return add({.kind = Kind::kTextEnd});
      case U'Z': return add({.kind = Kind::kTextEndOrNewline});
      case U'b': return add({.kind = Kind::kWordBoundary});
      case U'B': return add({.kind = Kind::kWordBoundary, .negated = true});
      default: break;
    }
    if (c >= U'1' && c <= U'9') fail("back-references are not supported");
    --at_;
    CharSet set;
    if (const auto literal = escape(set)) set.add(*literal, *literal);
    return add_set(std::move(set));
  }

  /// What follows a backslash: a code point, or a set that is added to `set`.
  std::optional<char32_t> escape(CharSet& set) {
    const char32_t c = get();
    const auto named = [&](CharSet::Named name, bool negated) {
      CharSet one;
      one.add_named(name);
      if (negated) one.negate();
      set.add_set(std::move(one));
      return std::nullopt;
    };
    switch (c) {
      case U's': return named(CharSet::Named::kSpace, false);
      case U'S': return named(CharSet::Named::kSpace, true);
      case U'w': return named(CharSet::Named::kWord, false);
      case U'W': return named(CharSet::Named::kWord, true);
      case U'h': return named(CharSet::Named::kHexDigit, false);
      case U'H': return named(CharSet::Named::kHexDigit, true);
      case U'd':
      case U'D': {
        CharSet digits;
        digits.add_categories(unicode::mask(unicode::kNd));
        if (c == U'D') digits.negate();
        set.add_set(std::move(digits));
        return std::nullopt;
      }
      case U'p':
      case U'P': property(set, c == U'P'); return std::nullopt;
      case U'n': return U'\n';
      case U'r': return U'\r';
      case U't': return U'\t';
      case U'f': return U'\f';
      case U'v': return U'\v';
      case U'a': return U'\a';
      case U'e': return 0x1B;
      case U'0': return 0;
      case U'x': return hexadecimal(2);
      case U'u': return hexadecimal(4);
      default:
        if (c < 128 && std::isalpha(static_cast<int>(c))) {
          --at_;
          fail("escape is not supported");
        }
        return c;
    }
  }

  char32_t hexadecimal(int digits) {
    const bool braces = take(U'{');
    char32_t value = 0;
    int seen = 0;
    while (!done() && (braces || seen < digits) && text_[at_] < 128 &&
           std::isxdigit(static_cast<int>(text_[at_]))) {
      const char32_t c = get();
      value = value * 16 + (c <= U'9' ? c - U'0' : (c | 32) - U'a' + 10);
      if (++seen > 6) fail("code point too large");
    }
    if (seen == 0 || (braces && !take(U'}')) || value >= 0x110000) fail("malformed code point");
    return value;
  }

  void property(CharSet& set, bool negated) {
    std::string name;
    if (take(U'{')) {
      if (take(U'^')) negated = !negated;
      for (char32_t c = get(); c != U'}'; c = get()) unicode::append(name, c);
    } else {
      unicode::append(name, get());
    }
    CharSet one;
    const uint32_t categories = unicode::category_mask(name);
    if (categories != 0)
      one.add_categories(categories);
    else if (name == "Han" || name == "Script=Han")
      one.add_named(CharSet::Named::kHan);
    else if (name == "Space" || name == "White_Space")
      one.add_named(CharSet::Named::kSpace);
    else if (name == "Word")
      one.add_named(CharSet::Named::kWord);
    else
      fail("property \"" + name + "\" is not supported");
    if (negated) one.negate();
    set.add_set(std::move(one));
  }

  CharSet char_class() {
    if (++depth_ > kMaxDepth) fail("classes nested too deeply");
    CharSet set;
    const bool negated = take(U'^');
    for (bool first = true;; first = false) {
      if (take(U"&&")) {
        set.intersect(char_class());  // takes our ]
        break;
      }
      if (take(U"[:")) {
        posix(set);
        continue;
      }
      const char32_t c = get();
      if (c == U']' && !first) break;
      if (c == U'[') {
        set.add_set(char_class());
        continue;
      }
      std::optional<char32_t> low = c == U'\\' ? escape(set) : std::optional(c);
      if (low) range(set, *low);
    }
    if (negated) set.negate();
    --depth_;
    return set;
  }

  void range(CharSet& set, char32_t low) {
    if (at_ + 1 >= text_.size() || text_[at_] != U'-' || text_[at_ + 1] == U']') {
      set.add(low, low);
      return;
    }
    ++at_;
    const char32_t c = get();
    const std::optional<char32_t> high = c == U'\\' ? escape(set) : std::optional(c);
    if (!high) {
      set.add(low, low);
      set.add(U'-', U'-');
      return;
    }
    if (*high < low) fail("range out of order");
    set.add(low, *high);
  }

  void posix(CharSet& set) {
    std::string name;
    const bool negated = take(U'^');
    for (char32_t c = get(); c != U':'; c = get()) unicode::append(name, c);
    if (!take(U']')) fail("malformed [: :]");
    CharSet one;
    using namespace unicode;
    if (name == "alpha") one.add_categories(category_mask("L"));
    else if (name == "digit") one.add_categories(mask(kNd));
    else if (name == "alnum") one.add_categories(category_mask("L") | mask(kNd));
    else if (name == "space") one.add_named(CharSet::Named::kSpace);
    else if (name == "punct") one.add_categories(category_mask("P") | category_mask("S"));
    else if (name == "upper") one.add_categories(mask(kLu));
    else if (name == "lower") one.add_categories(mask(kLl));
    else fail("class [:" + name + ":] is not supported");
    if (negated) one.negate();
    set.add_set(std::move(one));
  }

  const std::string& pattern_;
  std::u32string text_;
  size_t at_ = 0;
  int depth_ = 0;
  bool ignore_case_ = false;
  Compiled out_;
};

}  // namespace

Compiled compile(const std::string& pattern) { return Parser(pattern).parse(); }

}  // namespace meed::regex
