#include "libpolicy/text/answer.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <string>

#include "libpolicy/text/math_expression.h"

namespace meed {
namespace {

/// What an answer stands after, the surest first.
constexpr std::string_view kMarkers[] = {"####", "answer is", "Answer is", "answer:", "Answer:"};

bool is_digit(char c) { return c >= '0' && c <= '9'; }

void skip(std::string_view& text, std::string_view what) {
  while (text.starts_with(what)) text.remove_prefix(what.size());
}

/// Drops what may stand before a number: spaces, currency, markup.
void skip_ornaments(std::string_view& text) {
  static constexpr std::string_view kOrnaments[] = {
      " ", "\t", "\n", "\r", "$", "\\$", "\\(",          "\\[",     "*",
      "`", "\"", "'",  ":",  "=", "\\",  "\xE2\x82\xAC", "\xC2\xA3"};
  for (size_t before = text.size() + 1; text.size() < before;) {
    before = text.size();
    for (const auto ornament : kOrnaments) skip(text, ornament);
  }
}

/// Digits with thousands separators and a fraction, without a sign; the rest stays in `text`.
std::optional<double> unsigned_number(std::string_view& text) {
  std::string digits;
  size_t at = 0;
  const auto three_digits_at = [&](size_t i) {
    return i + 3 <= text.size() && is_digit(text[i]) && is_digit(text[i + 1]) &&
           is_digit(text[i + 2]) && (i + 3 == text.size() || !is_digit(text[i + 3]));
  };
  while (at < text.size()) {
    if (is_digit(text[at]))
      digits += text[at++];
    else if (text[at] == ',' && !digits.empty() && three_digits_at(at + 1))
      ++at;
    else
      break;
  }
  if (at + 1 < text.size() && text[at] == '.' && is_digit(text[at + 1])) {
    digits += text[at++];
    while (at < text.size() && is_digit(text[at])) digits += text[at++];
  }
  if (digits.empty() || digits.front() == '.') {
    if (digits.empty()) return std::nullopt;
    digits = "0" + digits;
  }
  if (at + 1 < text.size() && (text[at] == 'e' || text[at] == 'E')) {
    size_t end = at + 1;
    if (end < text.size() && (text[end] == '+' || text[end] == '-')) ++end;
    const size_t first = end;
    while (end < text.size() && is_digit(text[end])) ++end;
    if (end > first) {
      digits.append(text.substr(at, end - at));
      at = end;
    }
  }
  double value = 0.0;
  const auto result = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (result.ec != std::errc() || !std::isfinite(value)) return std::nullopt;
  text.remove_prefix(at);
  return value;
}

std::optional<double> take_number(std::string_view& text) {
  skip_ornaments(text);
  double sign = 1.0;
  if (text.starts_with('-') || text.starts_with('+')) {
    sign = text.front() == '-' ? -1.0 : 1.0;
    text.remove_prefix(1);
  } else if (text.starts_with("\xE2\x88\x92")) {  // U+2212, the minus sign
    sign = -1.0;
    text.remove_prefix(3);
  }
  skip_ornaments(text);
  if (text.starts_with("frac{") || text.starts_with("dfrac{")) {
    std::string_view rest = text.substr(text.find('{') + 1);
    const auto top = take_number(rest);
    if (!top || !rest.starts_with("}{")) return std::nullopt;
    rest.remove_prefix(2);
    const auto bottom = take_number(rest);
    if (!bottom || *bottom == 0.0) return std::nullopt;
    text = rest;
    return sign * *top / *bottom;
  }
  auto value = unsigned_number(text);
  if (!value) return std::nullopt;
  if (text.starts_with('/') && text.size() > 1 && is_digit(text[1])) {
    std::string_view rest = text.substr(1);
    if (const auto bottom = unsigned_number(rest); bottom && *bottom != 0.0) {
      *value /= *bottom;
      text = rest;
    }
  }
  return sign * *value;
}

/// The inside of the last \boxed{...}.
std::optional<std::string_view> last_boxed(std::string_view text) {
  const auto start = text.rfind("\\boxed{");
  if (start == std::string_view::npos) return std::nullopt;
  const size_t first = start + 7;
  int depth = 1;
  for (size_t i = first; i < text.size(); ++i) {
    if (text[i] == '{') ++depth;
    if (text[i] == '}' && --depth == 0) return text.substr(first, i - first);
  }
  return std::nullopt;
}

std::optional<double> number_after(std::string_view text, std::string_view marker) {
  const auto at = text.rfind(marker);
  if (at == std::string_view::npos) return std::nullopt;
  return parse_number(text.substr(at + marker.size()));
}

std::optional<double> last_number(std::string_view text) {
  size_t end = text.size();
  while (end > 0 && !is_digit(text[end - 1])) --end;
  if (end == 0) return std::nullopt;
  // Walks back over digits and what may stand between two of them.
  const auto is_inner = [&](size_t at) {
    constexpr std::string_view kInner = ".,/eE";
    return at > 0 && kInner.find(text[at]) != std::string_view::npos && is_digit(text[at - 1]) && is_digit(text[at + 1]);
  };
  size_t begin = end;
  while (begin > 0 && (is_digit(text[begin - 1]) || (begin < end && is_inner(begin - 1)))) --begin;
  // A sign counts where it does not join two words or numbers.
  const auto joins = [&](size_t at) {
    return at > 0 &&
           (is_digit(text[at - 1]) || std::isalpha(static_cast<unsigned char>(text[at - 1])) ||
            text[at - 1] == ')');
  };
  if (begin > 0 && text[begin - 1] == '-' && !joins(begin - 1))
    --begin;
  else if (begin > 2 && text.substr(begin - 3, 3) == "\xE2\x88\x92")
    begin -= 3;
  return parse_number(text.substr(begin));
}

}  // namespace

std::optional<double> parse_number(std::string_view text) { return take_number(text); }

std::optional<double> extract_answer(std::string_view text) {
  if (const auto boxed = last_boxed(text)) return parse_number(*boxed);
  for (const auto marker : kMarkers)
    if (const auto value = number_after(text, marker)) return value;
  return last_number(text);
}

bool same_number(double a, double b) {
  constexpr double kTolerance = 1e-6;
  return std::abs(a - b) <= kTolerance * std::max({1.0, std::abs(a), std::abs(b)});
}

std::optional<FoundAnswer> find_answer(std::string_view completion) {
  const auto trimmed = [](std::string_view text) {
    const auto first = text.find_first_not_of(" \t\r\n*:");
    if (first == std::string_view::npos) return std::string_view();
    return text.substr(first, text.find_last_not_of(" \t\r\n*") - first + 1);
  };
  if (const auto boxed = last_boxed(completion)) return FoundAnswer{std::string(*boxed), true};
  if (const auto start = completion.rfind("<answer>"); start != std::string_view::npos) {
    const auto inside = completion.substr(start + 8);
    if (const auto end = inside.find("</answer>"); end != std::string_view::npos)
      if (const auto text = trimmed(inside.substr(0, end)); !text.empty()) {
        // "The answer is 5" within the block, or "#### 5".
        if (text.size() > 40)
          if (auto inner = find_answer(text)) return FoundAnswer{inner->text, true};
        return FoundAnswer{std::string(text), true};
      }
  }
  for (const auto marker : kMarkers) {
    const auto at = completion.rfind(marker);
    if (at == std::string_view::npos) continue;
    auto line = completion.substr(at + marker.size());
    line = trimmed(line.substr(0, line.find('\n', line.find_first_not_of(" \t\r\n*:"))));
    // A sentence ends the answer; a point within a number does not.
    if (const auto end = line.find(". "); end != std::string_view::npos) line = line.substr(0, end);
    if (!line.empty()) return FoundAnswer{std::string(line), true};
  }
  const auto whole = trimmed(completion);
  if (whole.empty()) return std::nullopt;
  constexpr size_t kShortLine = 40;
  if (whole.size() <= kShortLine && whole.find('\n') == std::string_view::npos &&
      (MathExpression::parse(whole) || whole.find_first_of("0123456789") == std::string_view::npos))
    return FoundAnswer{std::string(whole), false};
  // The last number, with its sign, fraction and percent sign.
  size_t end = whole.size();
  while (end > 0 && !is_digit(whole[end - 1])) --end;
  if (end == 0) return std::nullopt;
  size_t begin = end;
  const auto inner = [&](size_t i) {
    return i > 0 && std::string_view(".,/").find(whole[i]) != std::string_view::npos &&
           is_digit(whole[i - 1]);
  };
  while (begin > 0 && (is_digit(whole[begin - 1]) || (begin < end && inner(begin - 1)))) --begin;
  if (begin > 0 && whole[begin - 1] == '-' &&
      (begin == 1 || !std::isalnum(static_cast<unsigned char>(whole[begin - 2]))))
    --begin;
  if (end < whole.size() && whole[end] == '%') ++end;
  return FoundAnswer{std::string(whole.substr(begin, end - begin)), false};
}

}  // namespace meed
