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

/// How two answers compare.
struct AnswerVerdict {
  bool equal = false;
  /// 1: both were read as expressions, or are the same word or choice; 0.5: compared as loose text;
  /// 0: there was nothing to compare.
  double confidence = 0.0;
};

/// Whether `given` means the same as `gold`. Numbers within a relative `tolerance` (absolute near
/// 0); expressions in variables at five points; sets in any order; "50%" equals "50" and "0.5";
/// units of one dimension are converted, a missing unit is forgiven, different dimensions differ;
/// choices "(C)", "C." and "c" agree; other text by its letters and digits.
AnswerVerdict compare_answers(std::string_view given, std::string_view gold,
                              double tolerance = 1e-6);

/// Where a completion gives its answer.
struct FoundAnswer {
  std::string text;
  bool marked = false;  ///< in \boxed{}, <answer>, after "####" or "answer is"; else a guess
};
/// The answer of a completion, in this order: the last \boxed{...}, the last <answer> block, what
/// follows the last "####" or "answer is" / "answer:" on its line, a completion of one short line
/// as it is, the last number. nullopt if there is none.
std::optional<FoundAnswer> find_answer(std::string_view completion);

}  // namespace meed
