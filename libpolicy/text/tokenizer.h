#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "libpolicy/data/example.h"

namespace meed {

class ChatTemplate;

/// Text <-> token ids, exactly as Hugging Face's tokenizer.json (or a GGUF's embedded tokenizer) says.
/// const methods may be called from several threads.
class Tokenizer {
 public:
  virtual ~Tokenizer() = default;
  /// A Hugging Face folder, a tokenizer.json or a .gguf. Throws DataError.
  static std::unique_ptr<Tokenizer> load(const std::filesystem::path& path);

  struct EncodeOptions {
    bool parse_special = false;       ///< Special tokens written in the text become special tokens. Never for a user's text.
    bool add_special_tokens = false;  ///< What the post-processor adds (BOS, [CLS] ... [SEP]).
  };
  virtual std::vector<int64_t> encode(std::string_view text, const EncodeOptions& options) const = 0;
  std::vector<int64_t> encode(std::string_view text) const { return encode(text, EncodeOptions{}); }

  /// A text of which only the marked ranges may hold special tokens: a rendered chat template. Equal to
  /// encode(whole, parse_special) whenever the unmarked ranges hold no special token.
  struct Piece {
    std::string text;
    bool trusted = false;  ///< template text: special tokens count
  };
  virtual std::vector<int64_t> encode(std::span<const Piece> pieces, bool add_special_tokens = false) const = 0;

  virtual std::string decode(std::span<const int64_t> ids, bool skip_special_tokens = true) const = 0;
  /// The raw bytes of one token (no clean-up), for streaming and stop strings.
  virtual std::string token_bytes(int64_t id) const = 0;
  /// As token_bytes; `first`: the text is still empty, so a word's leading space is left out where
  /// decode() leaves it out.
  virtual std::string stream_bytes(int64_t id, bool /*first*/) const { return token_bytes(id); }

  virtual int64_t vocab_size() const = 0;  ///< largest id + 1
  virtual std::optional<int64_t> token_to_id(std::string_view token) const = 0;
  virtual std::string id_to_token(int64_t id) const = 0;
  virtual bool is_special(int64_t id) const = 0;
  virtual std::optional<int64_t> bos_id() const = 0;
  virtual std::optional<int64_t> eos_id() const = 0;
  virtual std::optional<int64_t> pad_id() const = 0;

  /// The chat template that came with it; nullptr if none.
  virtual const ChatTemplate* chat_template() const = 0;
  /// Writes tokenizer.json, tokenizer_config.json, special_tokens_map.json (and chat_template.jinja) that transformers reads.
  virtual void save(const std::filesystem::path& folder) const = 0;
};

/// Holds back incomplete UTF-8 while tokens arrive one by one; what comes out joins to what decode() gives
/// (without its clean-up of spaces; where a run of byte tokens such as <0xE4> is not valid UTF-8, decode() gives
/// U+FFFD for every byte of the run, as tokenizers does, and this for the wrong ones).
class IncrementalDecoder {
 public:
  explicit IncrementalDecoder(const Tokenizer& tokenizer, bool skip_special_tokens = true)
      : tokenizer_(tokenizer), skip_special_tokens_(skip_special_tokens) {}
  /// The text that became certain with this token; "" while a character is incomplete.
  std::string push(int64_t id);
  /// What is left; incomplete bytes become U+FFFD.
  std::string finish();

 private:
  const Tokenizer& tokenizer_;
  bool skip_special_tokens_, first_ = true;
  std::string pending_;
};

}  // namespace meed
