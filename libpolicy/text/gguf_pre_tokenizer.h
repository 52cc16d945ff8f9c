#pragma once

#include <string>

namespace meed {

/// What a GGUF's tokenizer.ggml.pre stands for in terms of tokenizer.json.
struct GgufPreTokenizer {
  std::string json;            ///< the "pre_tokenizer"
  bool nfc = false;            ///< text is normalised to NFC first
  bool ignore_merges = false;  ///< a word of the vocabulary needs no merges
  bool add_bos = false;        ///< unless tokenizer.ggml.add_bos_token says otherwise
};

/// The names that llama.cpp's converter writes, as far as the pre-tokenizers of tokenizer.json
/// express them. Throws DataError that names `path` and the names that are known.
GgufPreTokenizer gguf_pre_tokenizer(const std::string& pre, const std::string& path);

}  // namespace meed
