#include <nlohmann/json.hpp>

#include "libpolicy/checkpoint/gguf.h"
#include "libpolicy/core/error.h"
#include "libpolicy/text/hf_tokenizer.h"

namespace meed {
namespace {

using Json = nlohmann::ordered_json;

// The regular expressions by which models split text into words before byte-pair encoding.
constexpr const char* kLlama3Words =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* kQwen2Words =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

Json byte_level(bool use_regex) {
  return {{"type", "ByteLevel"},
          {"add_prefix_space", false},
          {"trim_offsets", true},
          {"use_regex", use_regex}};
}

Json split(const char* words) {
  return {{"type", "Split"},
          {"pattern", {{"Regex", words}}},
          {"behavior", "Isolated"},
          {"invert", false}};
}

Json sequence(Json first, Json second) {
  return {{"type", "Sequence"},
          {"pretokenizers", Json::array({std::move(first), std::move(second)})}};
}

/// tokenizer.ggml.pre -> the pre-tokenizer of tokenizer.json.
Json pre_tokenizer(const std::string& pre, const std::string& path) {
  if (pre == "smollm")
    return sequence({{"type", "Digits"}, {"individual_digits", true}}, byte_level(true));
  if (pre == "gpt-2" || pre == "default" || pre.empty()) return byte_level(true);
  if (pre == "llama-bpe" || pre == "llama3" || pre == "llama-v3")
    return sequence(split(kLlama3Words), byte_level(false));
  if (pre == "qwen2") return sequence(split(kQwen2Words), byte_level(false));
  throw DataError(path + ": tokenizer.ggml.pre \"" + pre +
                  "\" is not supported (smollm, gpt-2, llama-bpe, qwen2); import the model's "
                  "Hugging Face folder instead");
}

// tokenizer.ggml.token_type
constexpr double kControl = 3, kUserDefined = 4;

void add_named_token(const GgufFile& file, const std::vector<std::string>& tokens, const char* key,
                     const char* name, Json& config) {
  const auto id = file.integer(key);
  if (id && *id >= 0 && *id < static_cast<int64_t>(tokens.size()))
    config[name] = tokens[static_cast<size_t>(*id)];
}

}  // namespace

TokenizerFiles tokenizer_files_of_gguf(const std::filesystem::path& path) {
  const GgufFile file(path);
  const auto model = file.string("tokenizer.ggml.model").value_or("");
  if (model != "gpt2")
    throw DataError(path.string() + ": tokenizer.ggml.model \"" + model +
                    "\" is not supported (gpt2: byte-level BPE); import the model's Hugging Face "
                    "folder instead");
  const auto tokens = file.strings("tokenizer.ggml.tokens");
  const auto types = file.numbers("tokenizer.ggml.token_type");
  const auto merges = file.strings("tokenizer.ggml.merges");
  if (tokens.empty() || merges.empty())
    throw DataError(path.string() + ": tokenizer.ggml.tokens or tokenizer.ggml.merges is missing");
  if (!types.empty() && types.size() != tokens.size())
    throw DataError(path.string() +
                    ": tokenizer.ggml.token_type has another length than tokenizer.ggml.tokens");
  const auto pre = file.string("tokenizer.ggml.pre").value_or("");
  Json vocabulary = Json::object(), added = Json::array();
  for (size_t id = 0; id < tokens.size(); ++id) {
    vocabulary[tokens[id]] = id;
    const double type = types.empty() ? 0 : types[id];
    if (type == kControl || type == kUserDefined)
      added.push_back({{"id", id},
                       {"content", tokens[id]},
                       {"single_word", false},
                       {"lstrip", false},
                       {"rstrip", false},
                       {"normalized", false},
                       {"special", type == kControl}});
  }
  const Json json = {{"version", "1.0"},
                     {"truncation", nullptr},
                     {"padding", nullptr},
                     {"added_tokens", added},
                     {"normalizer", pre == "qwen2" ? Json{{"type", "NFC"}} : Json(nullptr)},
                     {"pre_tokenizer", pre_tokenizer(pre, path.string())},
                     {"post_processor", byte_level(true)},
                     {"decoder", byte_level(true)},
                     {"model",
                      {{"type", "BPE"},
                       {"dropout", nullptr},
                       {"unk_token", nullptr},
                       {"continuing_subword_prefix", nullptr},
                       {"end_of_word_suffix", nullptr},
                       {"fuse_unk", false},
                       {"byte_fallback", false},
                       {"ignore_merges", pre == "llama-bpe"},
                       {"vocab", vocabulary},
                       {"merges", merges}}}};
  Json config = {{"tokenizer_class", "PreTrainedTokenizerFast"},
                 {"clean_up_tokenization_spaces", false}};
  add_named_token(file, tokens, "tokenizer.ggml.bos_token_id", "bos_token", config);
  add_named_token(file, tokens, "tokenizer.ggml.eos_token_id", "eos_token", config);
  add_named_token(file, tokens, "tokenizer.ggml.unknown_token_id", "unk_token", config);
  add_named_token(file, tokens, "tokenizer.ggml.padding_token_id", "pad_token", config);
  if (const auto add = file.boolean("tokenizer.ggml.add_bos_token")) config["add_bos_token"] = *add;
  TokenizerFiles files;
  files.name = path.string();
  files.tokenizer_json = json.dump(-1, ' ', false, Json::error_handler_t::replace);
  files.config_json = config.dump();
  files.chat_template = file.string("tokenizer.chat_template").value_or("");
  return files;
}

}  // namespace meed
