#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "libpolicy/text/added_tokens.h"
#include "libpolicy/text/chat_template.h"
#include "libpolicy/text/normalizer.h"
#include "libpolicy/text/post_processor.h"
#include "libpolicy/text/pre_tokenizer.h"
#include "libpolicy/text/token_decoder.h"
#include "libpolicy/text/token_model.h"
#include "libpolicy/text/tokenizer.h"

namespace meed {

/// What a tokenizer is made of: the texts of the files of a Hugging Face folder.
struct TokenizerFiles {
  std::string name;            ///< for messages: the folder or file
  std::string tokenizer_json;
  std::string config_json;     ///< tokenizer_config.json; may be empty
  std::string special_map_json;  ///< special_tokens_map.json; may be empty
  std::string chat_template;   ///< chat_template.jinja; may be empty
  std::string tool_use_template;  ///< additional_chat_templates/tool_use.jinja; may be empty
};

/// Reads the files of a folder, or tokenizer.json and what lies beside it. Throws DataError.
TokenizerFiles read_tokenizer_files(const std::filesystem::path& path);
/// Writes a GGUF's embedded tokenizer as such files. Throws DataError.
TokenizerFiles tokenizer_files_of_gguf(const std::filesystem::path& path);

/// Everything that a tokenizer_config.json says beyond tokenizer.json.
struct TokenizerConfig {
  std::map<std::string, std::string> named_tokens;  ///< "bos_token" -> "<s>"
  std::vector<AddedToken> added;                    ///< to add if they are not there
  std::string chat_template, tool_use_template;
  std::optional<bool> add_bos, add_eos;
  bool clean_up_spaces = false, split_special_tokens = false;
};
TokenizerConfig read_tokenizer_config(const TokenizerFiles& files);

/// The pipeline of Hugging Face's tokenizers: added tokens, normaliser, pre-tokeniser, model,
/// post-processor, decoder.
class HfTokenizer final : public Tokenizer {
 public:
  explicit HfTokenizer(TokenizerFiles files);

  using Tokenizer::encode;
  std::vector<int64_t> encode(std::string_view text, const EncodeOptions& options) const override;
  std::vector<int64_t> encode(std::span<const Piece> pieces, bool add_special_tokens) const override;
  std::string decode(std::span<const int64_t> ids, bool skip_special_tokens) const override;
  std::string token_bytes(int64_t id) const override;
  std::string stream_bytes(int64_t id, bool first) const override;
  int64_t vocab_size() const override;
  std::optional<int64_t> token_to_id(std::string_view token) const override;
  std::string id_to_token(int64_t id) const override;
  bool is_special(int64_t id) const override;
  std::optional<int64_t> bos_id() const override { return named_id("bos_token"); }
  std::optional<int64_t> eos_id() const override { return named_id("eos_token"); }
  std::optional<int64_t> pad_id() const override { return named_id("pad_token"); }
  const ChatTemplate* chat_template() const override;
  void save(const std::filesystem::path& folder) const override;

 private:
  void read_added_tokens(const JsonReader& json);
  void add_token(AddedToken token);
  void apply_config();
  void load_chat_template();
  std::optional<int64_t> named_id(const std::string& name) const;
  void append(std::string_view text, const AddedTokens::Trusted& trusted, bool mixed,
              std::vector<int64_t>& ids) const;
  void append_words(std::string_view text, bool at_start, TokenModel::Session& session,
                    std::vector<int64_t>& ids) const;

  TokenizerFiles files_;
  TokenizerConfig config_;
  std::unique_ptr<Normalizer> normalizer_;
  std::unique_ptr<PreTokenizer> pre_tokenizer_;
  std::unique_ptr<TokenModel> model_;
  std::unique_ptr<TokenDecoder> decoder_;
  PostProcessor post_processor_;
  AddedTokens added_;
  std::unique_ptr<ChatTemplate> chat_template_;
  std::string chat_template_error_;
};

}  // namespace meed
