#include "libpolicy/text/wrong_solutions.h"

#include <algorithm>
#include <cstdlib>
#include <vector>

#include "libpolicy/core/random.h"

namespace meed {
namespace {

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_space(char c) { return c == ' ' || c == '\n' || c == '\t' || c == '\r'; }

/// Where the last run of digits begins and ends; nullopt without one.
std::optional<std::pair<size_t, size_t>> last_number(const std::string& text) {
  const auto last = std::find_if(text.rbegin(), text.rend(), is_digit);
  if (last == text.rend()) return std::nullopt;
  const auto end = static_cast<size_t>(text.rend() - last);
  size_t begin = end;
  while (begin > 0 && is_digit(text[begin - 1])) --begin;
  return std::pair{begin, end};
}

}  // namespace

std::optional<std::string> with_other_number(const std::string& text, uint64_t seed) {
  constexpr size_t kMaxDigits = 15;
  const auto number = last_number(text);
  if (!number) return std::nullopt;
  const auto [begin, end] = *number;
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

std::optional<std::string> cut_before_last_number(const std::string& text, uint64_t seed) {
  const auto number = last_number(text);
  if (!number) return std::nullopt;
  std::vector<size_t> ends;  // of the words before the one that holds the number
  for (size_t i = 1; i < number->first; ++i)
    if (is_space(text[i]) && !is_space(text[i - 1])) ends.push_back(i);
  if (ends.empty()) return std::nullopt;
  RandomStream random(seed);
  return text.substr(
      0, ends[static_cast<size_t>(random.next_int(0, static_cast<int64_t>(ends.size()) - 1))]);
}

}  // namespace meed
