#include "libpolicy/data/example.h"

namespace meed {

std::string as_text(const Content& content, const char* between) {
  if (!content.conversational) return content.text;
  std::string text;
  for (const auto& message : content.messages)
    text += (text.empty() ? "" : between) + message.role + ": " + message.content;
  return text;
}

}  // namespace meed
