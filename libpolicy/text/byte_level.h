#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

/// GPT-2's mapping of bytes to printable characters.
namespace meed::byte_level {

/// Each byte as its character.
std::string from_bytes(std::string_view bytes);
/// The bytes of such a text; nullopt if it holds any other character.
std::optional<std::string> to_bytes(std::string_view text);
/// The character of one byte, as UTF-8.
const std::string& character(uint8_t byte);

}  // namespace meed::byte_level
