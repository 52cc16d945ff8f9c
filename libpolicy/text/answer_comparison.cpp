#include "libpolicy/text/answer_comparison.h"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <optional>
#include <string>
#include <vector>

#include "libpolicy/text/math_expression.h"
#include "libpolicy/text/text_pattern.h"

namespace meed {
namespace {

using Complex = std::complex<double>;

bool close(Complex a, Complex b, double tolerance) {
  return std::abs(a - b) <= tolerance * std::max({1.0, std::abs(a), std::abs(b)});
}

/// Letters and digits in lower case, other bytes above ASCII as they are: loose text.
std::string loose(std::string_view text) {
  std::string key, plain(text);
  for (const std::string_view command :
       {"\\text", "\\mathrm", "\\textbf", "\\mathbf", "\\left", "\\right", "\\mbox"})
    TextPattern(std::string(command)).replace_all(plain, "");
  for (const char c : plain) {
    const auto byte = static_cast<unsigned char>(c);
    if (std::isalnum(byte)) key += static_cast<char>(std::tolower(byte));
    if (byte >= 0x80) key += c;
    if ((c == '-' || c == '<' || c == '>' || c == '=' || c == '/' || c == '+') && key != "")
      key += c;
  }
  while (!key.empty() && std::string_view("-+=/").find(key.back()) != std::string_view::npos)
    key.pop_back();
  return key;
}

std::optional<char> choice_of(std::string_view text) {
  const auto key = loose(text);
  return key.size() == 1 && key[0] >= 'a' && key[0] <= 'z' && text.size() <= 24
             ? std::optional<char>(key[0])
             : std::nullopt;
}

/// nullopt where most of the values are too large to compute, or not defined.
std::optional<bool> equal_values(const MathExpression& a, const MathExpression& b, double scale_a,
                                 double scale_b, double tolerance) {
  const auto both = a.variables() + b.variables();
  const int points = both.empty() ? 1 : 5;
  int compared = 0;
  for (int point = 0; point < points; ++point) {
    MathExpression::Assignment assignment;
    for (const char name : both)
      assignment[name] = 0.6 + 0.37 *
                                   std::fmod(static_cast<double>(name) * 0.754877666 +
                                                 static_cast<double>(point) * 0.569840291,
                                             1.0) *
                                   4.0;
    auto va = a.values(assignment), vb = b.values(assignment);
    if (va.size() != vb.size()) return false;
    const auto finite = [](const std::vector<Complex>& values) {
      return std::all_of(values.begin(), values.end(), [](Complex v) {
        return std::isfinite(v.real()) && std::isfinite(v.imag());
      });
    };
    if (!finite(va) || !finite(vb)) continue;
    const bool ordered = !a.brackets().empty() && a.brackets() != "{}";
    std::vector<bool> used(vb.size(), false);
    for (size_t i = 0; i < va.size(); ++i) {
      bool found = false;
      for (size_t j = ordered ? i : 0; j < (ordered ? i + 1 : vb.size()) && !found; ++j)
        if (!used[j] && close(va[i] * scale_a, vb[j] * scale_b, tolerance)) used[j] = found = true;
      if (!found) return false;
    }
    ++compared;
  }
  return compared * 2 > points ? std::optional(true) : std::nullopt;
}

}  // namespace

AnswerVerdict compare_answers(std::string_view given, std::string_view gold, double tolerance) {
  const auto key_given = loose(given), key_gold = loose(gold);
  if (key_given.empty() || key_gold.empty()) {
    const bool same = tidy_math(given) == tidy_math(gold) && !tidy_math(gold).empty();
    return {same, same ? 1.0 : 0.0};
  }
  if (const auto right = choice_of(gold))
    if (const auto chosen = choice_of(given)) return {*chosen == *right, 1.0};
  const auto a = MathExpression::parse(given), b = MathExpression::parse(gold);
  if (a && b) {
    if (!a->unit().empty() && !b->unit().empty() && a->unit() != b->unit()) return {false, 1.0};
    const bool units = !a->unit().empty() && !b->unit().empty();
    const double scale_a = units ? a->unit_factor() : 1.0, scale_b = units ? b->unit_factor() : 1.0;
    const bool interval =
        a->brackets() == b->brackets() || (a->brackets().empty() || b->brackets().empty());
    if (!interval) return {false, 1.0};
    auto equal = equal_values(*a, *b, scale_a, scale_b, tolerance);
    if (equal == false && a->percent() != b->percent())
      equal = equal_values(*a, *b, a->percent() ? 0.01 : 1.0, b->percent() ? 0.01 : 1.0, tolerance);
    if (equal) return {*equal, 1.0};
    return {key_given == key_gold, key_given == key_gold ? 1.0 : 0.0};
  }
  if (key_given == key_gold) return {true, 1.0};
  // A word within a longer answer, "Paris, France" for "Paris": equal in part, and said so.
  if (!b && key_gold.size() >= 3 && key_given.size() <= 4 * key_gold.size() &&
      key_given.find(key_gold) != std::string::npos)
    return {true, 0.5};
  return {false, b && !a ? 0.0 : 0.5};
}

}  // namespace meed
