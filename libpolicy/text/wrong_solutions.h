#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace meed {

/// The text with another integer in place of its last one, the same words around it: a solution
/// whose answer is wrong. `seed` decides which, near the old one; nullopt if the text has no
/// integer of at most 15 digits.
std::optional<std::string> with_other_number(const std::string& text, uint64_t seed);

/// The text up to the end of a word before its last integer: a solution that is cut short before it
/// states its answer. `seed` decides which word; nullopt if no word stands before an integer.
std::optional<std::string> cut_before_last_number(const std::string& text, uint64_t seed);

}  // namespace meed
