#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace meed {

/// One turn of a conversation.
struct Message {
  std::string role;     ///< "system", "user", "assistant", "tool"
  std::string content;
  std::string json;     ///< The whole original object as JSON when it has more than role and content, else "".
};

/// A dataset's text field: plain text (TRL's standard format) or turns (conversational).
struct Content {
  std::string text;
  std::vector<Message> messages;
  bool conversational = false;
  std::string tools = {};  ///< conversational: the functions that the model may call, a JSON array or ""

  bool empty() const { return conversational ? messages.empty() : text.empty(); }
};

/// For people and judges: the text, or "role: content" of each message with `between` in between.
std::string as_text(const Content& content, const char* between);

/// One row. Which members are filled depends on the dataset's type; the names are TRL's. Columns that are
/// none of these stay readable in `extra` (strings as they are, everything else as JSON).
struct Example {
  Content text;                          ///< language modelling: "text" or "messages"
  Content prompt;
  Content completion;                    ///< prompt-completion, unpaired preference
  Content chosen, rejected;              ///< preference; with an implicit prompt `prompt` is empty until split
  std::optional<double> margin;          ///< preference strength, chosen over rejected
  std::optional<bool> label;             ///< unpaired preference
  std::vector<std::string> completions;  ///< stepwise supervision: the steps
  std::vector<double> labels;            ///< stepwise supervision: [completions.size()]
  std::map<std::string, std::string> extra;  ///< e.g. "answer", "reference"
  int64_t row = 0;                       ///< index in its dataset
};

}  // namespace meed
