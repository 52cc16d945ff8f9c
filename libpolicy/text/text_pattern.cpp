#include "libpolicy/text/text_pattern.h"

#include "libpolicy/core/error.h"
#include "libpolicy/text/json_reader.h"

namespace meed {

TextPattern::TextPattern(const JsonReader& json) {
  if (json.is_string()) {
    literal_ = json.string();
  } else if (const auto regex = json.find("Regex")) {
    try {
      regex_ = std::make_shared<const Regex>(regex->string());
    } catch (const DataError& e) {
      regex->fail(e.what());
    }
  } else {
    literal_ = json.at("String").string();
  }
}

std::vector<Regex::Match> TextPattern::find_all(std::string_view text) const {
  if (regex_) return regex_->find_all(text);
  std::vector<Regex::Match> matches;
  if (literal_.empty()) return matches;
  for (size_t at = text.find(literal_); at != std::string_view::npos;
       at = text.find(literal_, at + literal_.size()))
    matches.push_back({at, at + literal_.size()});
  return matches;
}

void TextPattern::replace_all(std::string& text, std::string_view replacement) const {
  const auto matches = find_all(text);
  if (matches.empty()) return;
  std::string result;
  size_t end = 0;
  for (const auto& match : matches) {
    result.append(text, end, match.begin - end);
    result += replacement;
    end = match.end;
  }
  result.append(text, end);
  text = std::move(result);
}

}  // namespace meed
