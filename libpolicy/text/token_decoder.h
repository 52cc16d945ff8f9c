#pragma once

#include <memory>
#include <string>
#include <vector>

namespace meed {

class JsonReader;

/// Turns token texts back into text: the "decoder" of a tokenizer.json. Thread-safe.
class TokenDecoder {
 public:
  virtual ~TokenDecoder() = default;
  /// Rewrites the tokens; the text is what they join to.
  virtual void decode(std::vector<std::string>& tokens) const = 0;
  /// The bytes that one token adds to the text; may be part of a character. `first`: the text is
  /// still empty.
  virtual std::string token_bytes(const std::string& token, bool first) const = 0;
};

/// Throws DataError for a type that is not supported.
std::unique_ptr<TokenDecoder> make_token_decoder(const JsonReader& json, int depth = 0);

}  // namespace meed
