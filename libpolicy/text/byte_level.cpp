#include "libpolicy/text/byte_level.h"

#include <array>

#include "libpolicy/text/unicode.h"

namespace meed::byte_level {
namespace {

struct Tables {
  std::array<std::string, 256> characters;
  std::array<int, 0x144> bytes;  ///< of each code point; -1: none

  Tables() {
    bytes.fill(-1);
    char32_t spare = 256;
    for (int byte = 0; byte < 256; ++byte) {
      const bool printable = (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
      const char32_t c = printable ? static_cast<char32_t>(byte) : spare++;
      unicode::append(characters[static_cast<size_t>(byte)], c);
      bytes[c] = byte;
    }
  }
};

const Tables& tables() {
  static const Tables instance;
  return instance;
}

}  // namespace

std::string from_bytes(std::string_view bytes) {
  std::string out;
  out.reserve(bytes.size() * 2);
  for (const char c : bytes) out += tables().characters[static_cast<uint8_t>(c)];
  return out;
}

std::optional<std::string> to_bytes(std::string_view text) {
  std::string out;
  for (size_t position = 0; position < text.size();) {
    const char32_t c = unicode::next(text, position);
    if (c >= tables().bytes.size() || tables().bytes[c] < 0) return std::nullopt;
    out += static_cast<char>(tables().bytes[c]);
  }
  return out;
}

const std::string& character(uint8_t byte) { return tables().characters[byte]; }

}  // namespace meed::byte_level
