#pragma once

#include <string_view>

namespace meed {

/// How two answers compare.
struct AnswerVerdict {
  bool equal = false;
  /// 1: both were read as expressions, or are the same word or choice; 0.5: compared as loose text;
  /// 0: there was nothing to compare, or what was given cannot be read or computed as mathematics.
  double confidence = 0.0;
};

/// Whether `given` means the same as `gold`. Numbers within a relative `tolerance` (absolute near
/// 0); expressions in variables at five points; sets in any order; "50%" equals "50" and "0.5";
/// units of one dimension are converted, a missing unit is forgiven, different dimensions differ;
/// choices "(C)", "C." and "c" agree; other text by its letters and digits.
AnswerVerdict compare_answers(std::string_view given, std::string_view gold,
                              double tolerance = 1e-6);

}  // namespace meed
