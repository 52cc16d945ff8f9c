#pragma once

#include <complex>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace meed {

/// A mathematical answer as people, textbooks and models write it, in LaTeX or plain text: numbers
/// ("1,234", "3e5", "2 1/2"), fractions, roots, powers, factorials, common functions, constants,
/// variables, percents, known units, "x = 5", tuples, intervals and sets.
/// Hostile text is fine: depth and length are bounded, nothing throws.
class MathExpression {
 public:
  /// nullopt if `text` is no expression from end to end: words, an unknown command, brackets that
  /// do not pair up, more than 4,096 bytes, more than 64 levels.
  static std::optional<MathExpression> parse(std::string_view text);

  using Assignment = std::map<char, std::complex<double>>;
  /// The values of the parts, in order, for these variables; NaN where one is not defined. A plain
  /// expression has one part, "a \pm b" two.
  std::vector<std::complex<double>> values(const Assignment& variables) const;
  const std::string& variables() const { return variables_; }  ///< each once, sorted
  /// "" for one expression; "()", "[]", "[)", "(]" for tuples and intervals, "{}" for sets.
  const std::string& brackets() const { return brackets_; }
  bool percent() const { return percent_; }      ///< "50%": the value is 50
  const std::string& unit() const { return unit_; }  ///< dimension ("length"), or "": none known
  double unit_factor() const { return unit_factor_; }  ///< to the dimension's base unit

  struct Node;

 private:
  std::vector<std::shared_ptr<const Node>> parts_;
  std::string variables_, brackets_, unit_;
  double unit_factor_ = 1.0;
  bool percent_ = false;
};

/// An expression without layout commands and ornaments, signs in ASCII.
std::string tidy_math(std::string_view text);

}  // namespace meed
