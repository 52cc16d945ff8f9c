#include "libreward/reference_prompt.h"

#include "libpolicy/text/answer.h"
#include "libpolicy/text/placeholders.h"

namespace meed {

std::string completion_text(const Content& completion) {
  if (!completion.conversational) return completion.text;
  return completion.messages.empty() ? "" : completion.messages.back().content;
}

Content with_text(Content completion, const std::string& text) {
  if (!completion.conversational)
    completion.text = text;
  else if (!completion.messages.empty())
    completion.messages.back() = {completion.messages.back().role, text, ""};
  return completion;
}

Content with_reference(const Content& prompt, const std::string& pattern,
                       const std::string& reference) {
  std::map<std::string, std::string> values = {{"prompt", completion_text(prompt)},
                                               {"reference", reference}};
  if (pattern.find("{final_answer}") != std::string::npos) {
    const auto answer = find_answer(reference);
    values["final_answer"] = answer ? answer->text : reference;
  }
  return with_text(prompt, fill_placeholders(pattern, values));
}

}  // namespace meed
