#include "libpolicy/text/tokenizer.h"

#include "libpolicy/core/error.h"
#include "libpolicy/text/hf_tokenizer.h"
#include "libpolicy/text/unicode.h"

namespace meed {

std::unique_ptr<Tokenizer> Tokenizer::load(const std::filesystem::path& path) {
  if (!std::filesystem::exists(path))
    throw DataError(path.string() + ": not found; expected a Hugging Face folder, a tokenizer.json or a .gguf file");
  if (path.extension() == ".gguf")
    return std::make_unique<HfTokenizer>(tokenizer_files_of_gguf(path));
  return std::make_unique<HfTokenizer>(read_tokenizer_files(path));
}

std::string IncrementalDecoder::push(int64_t id) {
  if (skip_special_tokens_ && tokenizer_.is_special(id)) return "";
  const std::string bytes = tokenizer_.stream_bytes(id, first_);
  first_ = false;
  pending_ += bytes;
  std::string text;
  for (;;) {
    const size_t valid = unicode::valid_prefix(pending_);
    text += pending_.substr(0, valid);
    pending_.erase(0, valid);
    if (pending_.empty() || unicode::incomplete_at_end(pending_)) return text;
    // A wrong byte that no further token can mend.
    const std::string repaired = unicode::replace_invalid(pending_.substr(0, 1));
    size_t length = 1;
    while (length < pending_.size() && unicode::incomplete_at_end(pending_.substr(0, length))) ++length;
    if (length > 1 && !unicode::incomplete_at_end(pending_.substr(0, length))) --length;
    text += repaired;
    pending_.erase(0, length);
  }
}

std::string IncrementalDecoder::finish() {
  std::string text = unicode::replace_invalid(pending_);
  pending_.clear();
  return text;
}

}  // namespace meed
