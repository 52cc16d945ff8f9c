#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace meed {

/// A number as people and models write it: "1,234", "$5", "-3", "\u22123", "2.50", "1/2", "50%" is
/// 50, "1e3". Units and a trailing period after it are ignored. nullopt if there is none at the
/// start.
std::optional<double> parse_number(std::string_view text);

/// The final answer of a solution, in this order: the last \boxed{...} (braces may nest), what
/// follows the last "####", what follows the last "answer is" / "answer:", the last number of the
/// text. Never throws, whatever the bytes.
std::optional<double> extract_answer(std::string_view text);

/// Equal up to a relative 1e-6 (absolute near 0).
bool same_number(double a, double b);

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
