#include "libpolicy/text/placeholders.h"

namespace meed {

std::string fill_placeholders(std::string_view pattern,
                              const std::map<std::string, std::string>& values) {
  std::string text;
  for (size_t at = 0; at < pattern.size();) {
    const size_t end = pattern[at] == '{' ? pattern.find('}', at) : std::string_view::npos;
    const auto found = end == std::string_view::npos
                           ? values.end()
                           : values.find(std::string(pattern.substr(at + 1, end - at - 1)));
    if (found == values.end()) {
      text += pattern[at++];
    } else {
      text += found->second;
      at = end + 1;
    }
  }
  return text;
}

}  // namespace meed
