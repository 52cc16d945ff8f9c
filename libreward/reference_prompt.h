#pragma once

#include <string>

#include "libpolicy/data/example.h"

namespace meed {

/// The prompt with a reference answer in it: `pattern` with {prompt}, {reference} and
/// {final_answer} filled in, where {prompt} is the text or, of a conversation, its last message,
/// which is replaced, and {final_answer} what find_answer() finds in the reference, or all of it.
Content with_reference(const Content& prompt, const std::string& pattern,
                       const std::string& reference);

/// A completion's words: the text, or its last message's content.
std::string completion_text(const Content& completion);
/// The same completion with other words.
Content with_text(Content completion, const std::string& text);

}  // namespace meed
