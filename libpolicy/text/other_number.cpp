#include "libpolicy/text/other_number.h"

#include <algorithm>
#include <cstdlib>

#include "libpolicy/core/random.h"

namespace meed {

std::optional<std::string> with_other_number(const std::string& text, uint64_t seed) {
  constexpr size_t kMaxDigits = 15;
  const auto is_digit = [](char c) { return c >= '0' && c <= '9'; };
  const auto last = std::find_if(text.rbegin(), text.rend(), is_digit);
  if (last == text.rend()) return std::nullopt;
  const auto end = static_cast<size_t>(text.rend() - last);
  size_t begin = end;
  while (begin > 0 && is_digit(text[begin - 1])) --begin;
  if (end - begin > kMaxDigits) return std::nullopt;
  const int64_t value = std::strtoll(text.substr(begin, end - begin).c_str(), nullptr, 10);
  // Within as much as the number itself, at least 9, and never below 0: the sign stands before it.
  const int64_t reach = std::max<int64_t>(9, value / 2);
  RandomStream random(seed);
  int64_t other = value;
  while (other == value)
    other = random.next_int(std::max<int64_t>(0, value - reach), value + reach);
  return text.substr(0, begin) + std::to_string(other) + text.substr(end);
}

}  // namespace meed
