#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "libpolicy/text/regex.h"

namespace meed {

class JsonReader;

/// The {"String": s} or {"Regex": r} of a tokenizer.json.
class TextPattern {
 public:
  explicit TextPattern(const JsonReader& json);
  explicit TextPattern(std::string literal) : literal_(std::move(literal)) {}
  std::vector<Regex::Match> find_all(std::string_view text) const;
  /// Replaces every match.
  void replace_all(std::string& text, std::string_view replacement) const;

 private:
  std::string literal_;
  std::shared_ptr<const Regex> regex_;
};

}  // namespace meed
