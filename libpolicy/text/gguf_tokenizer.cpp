#include <algorithm>
#include <nlohmann/json.hpp>
#include <unordered_map>

#include "libpolicy/checkpoint/gguf.h"
#include "libpolicy/core/error.h"
#include "libpolicy/text/gguf_pre_tokenizer.h"
#include "libpolicy/text/hf_tokenizer.h"
#include "libpolicy/text/unicode.h"

// A GGUF holds one of three kinds of vocabulary (tokenizer.ggml.model): "gpt2", byte-level BPE with
// its merges; "llama", SentencePiece's BPE, whose merges follow from the pieces' scores; "bert",
// WordPiece. Each is written as the tokenizer.json that Hugging Face's converters make of it.
namespace meed {
namespace {

using Json = nlohmann::ordered_json;

constexpr const char* kSpaceMark = "\u2581";

/// tokenizer.ggml.token_type
enum TokenType {
  kNormal = 1,
  kUnknown = 2,
  kControl = 3,
  kUserDefined = 4,
  kUnused = 5,
  kByte = 6
};

struct GgufVocabulary {
  const GgufFile& file;
  std::string path;
  std::vector<std::string> tokens;
  std::vector<int> types;

  explicit GgufVocabulary(const GgufFile& gguf) : file(gguf), path(gguf.path()) {
    tokens = file.strings("tokenizer.ggml.tokens");
    if (tokens.empty()) throw DataError(path + ": tokenizer.ggml.tokens is missing");
    for (const double type : file.numbers("tokenizer.ggml.token_type"))
      types.push_back(static_cast<int>(type));
    if (types.empty()) types.assign(tokens.size(), kNormal);
    check_length("token_type", types.size());
  }

  void check_length(const std::string& key, size_t length) const {
    if (length != tokens.size())
      throw DataError(path + ": tokenizer.ggml." + key + " has " + std::to_string(length) +
                      " entries, tokenizer.ggml.tokens " + std::to_string(tokens.size()));
  }

  /// The token that tokenizer.ggml.<name>_token_id names.
  std::optional<size_t> named(const std::string& name) const {
    const auto id = file.integer("tokenizer.ggml." + name + "_token_id");
    if (!id || *id < 0 || *id >= static_cast<int64_t>(tokens.size())) return std::nullopt;
    return static_cast<size_t>(*id);
  }

  bool is_added(size_t id) const {
    return types[id] == kControl || types[id] == kUserDefined || types[id] == kUnknown;
  }

  Json added_tokens() const {
    Json added = Json::array();
    for (size_t id = 0; id < tokens.size(); ++id)
      if (is_added(id))
        added.push_back({{"id", id},
                         {"content", tokens[id]},
                         {"single_word", false},
                         {"lstrip", false},
                         {"rstrip", false},
                         {"normalized", false},
                         {"special", types[id] != kUserDefined}});
    return added;
  }
};

/// {token: id}; by appending, since looking every key up would take quadratic time.
Json token_ids(const std::vector<std::string>& tokens) {
  Json::object_t ids;
  ids.reserve(tokens.size());
  for (size_t id = 0; id < tokens.size(); ++id) ids.emplace_back(tokens[id], id);
  return ids;
}

Json bpe(const GgufVocabulary& vocabulary, Json merges) {
  return {{"type", "BPE"},
          {"dropout", nullptr},
          {"unk_token", nullptr},
          {"continuing_subword_prefix", nullptr},
          {"end_of_word_suffix", nullptr},
          {"fuse_unk", false},
          {"byte_fallback", false},
          {"ignore_merges", false},
          {"vocab", token_ids(vocabulary.tokens)},
          {"merges", std::move(merges)}};
}

/// The tokens put around a text.
Json around(const GgufVocabulary& vocabulary, std::optional<size_t> before,
            std::optional<size_t> after) {
  Json single = Json::array(), special = Json::object();
  const auto place = [&](std::optional<size_t> id) {
    if (!id) return;
    const auto& token = vocabulary.tokens[*id];
    single.push_back({{"SpecialToken", {{"id", token}, {"type_id", 0}}}});
    special[token] = {{"id", token}, {"ids", {*id}}, {"tokens", {token}}};
  };
  place(before);
  single.push_back({{"Sequence", {{"id", "A"}, {"type_id", 0}}}});
  place(after);
  Json pair = single;
  pair.push_back({{"Sequence", {{"id", "B"}, {"type_id", 1}}}});
  return {{"type", "TemplateProcessing"},
          {"single", std::move(single)},
          {"pair", std::move(pair)},
          {"special_tokens", std::move(special)}};
}

/// Sets "post_processor" and, in `config`, the flags that say the same.
void add_bos_and_eos(const GgufVocabulary& vocabulary, bool add_bos, Json& json, Json& config) {
  const auto bos = vocabulary.named("bos"), eos = vocabulary.named("eos");
  add_bos = vocabulary.file.boolean("tokenizer.ggml.add_bos_token").value_or(add_bos);
  const bool add_eos = vocabulary.file.boolean("tokenizer.ggml.add_eos_token").value_or(false);
  config["add_bos_token"] = add_bos && bos;
  config["add_eos_token"] = add_eos && eos;
  if ((add_bos && bos) || (add_eos && eos))
    json["post_processor"] =
        around(vocabulary, add_bos ? bos : std::nullopt, add_eos ? eos : std::nullopt);
}

Json skeleton(const GgufVocabulary& vocabulary) {
  return {{"version", "1.0"},          {"truncation", nullptr},
          {"padding", nullptr},        {"added_tokens", vocabulary.added_tokens()},
          {"normalizer", nullptr},     {"pre_tokenizer", nullptr},
          {"post_processor", nullptr}, {"decoder", nullptr}};
}

Json byte_level_bpe(const GgufVocabulary& vocabulary, Json& config) {
  const auto merges = vocabulary.file.strings("tokenizer.ggml.merges");
  if (merges.empty()) throw DataError(vocabulary.path + ": tokenizer.ggml.merges is missing");
  const auto pre = gguf_pre_tokenizer(vocabulary.file.string("tokenizer.ggml.pre").value_or(""),
                                      vocabulary.path);
  const Json bytes = {{"type", "ByteLevel"},
                      {"add_prefix_space", false},
                      {"trim_offsets", true},
                      {"use_regex", true}};
  Json json = skeleton(vocabulary);
  if (pre.nfc) json["normalizer"] = {{"type", "NFC"}};
  json["pre_tokenizer"] = Json::parse(pre.json);
  json["post_processor"] = json["decoder"] = bytes;
  json["model"] = bpe(vocabulary, merges);
  json["model"]["ignore_merges"] = pre.ignore_merges;
  add_bos_and_eos(vocabulary, pre.add_bos, json, config);
  return json;
}

/// SentencePiece joins the two neighbours whose union has the highest score. As merges: every way
/// to cut a piece into two, best score first; of one piece the longest left part first, as
/// transformers' converter orders them.
Json merges_of_scores(const GgufVocabulary& vocabulary, const std::vector<double>& scores) {
  struct Merge {
    double score;
    int64_t left_length, right_length;  // characters
    std::string_view left, right;
  };
  std::unordered_map<std::string_view, size_t> pieces;
  const auto is_piece = [&](size_t id) {
    const int type = vocabulary.types[id];
    return type != kControl && type != kUnknown && type != kByte;
  };
  for (size_t id = 0; id < vocabulary.tokens.size(); ++id)
    if (is_piece(id)) pieces.emplace(vocabulary.tokens[id], id);
  std::vector<Merge> merges;
  for (const auto& [piece, id] : pieces) {
    int64_t length = 0;
    for (const char c : piece) length += (static_cast<unsigned char>(c) & 0xC0) != 0x80;
    int64_t left_length = 0;
    for (size_t cut = 0; cut < piece.size();) {
      cut = std::min(piece.size(), cut + unicode::character_length(piece[cut]));
      ++left_length;
      const auto left = piece.substr(0, cut), right = piece.substr(cut);
      if (!right.empty() && pieces.contains(left) && pieces.contains(right))
        merges.push_back({scores[id], left_length, length - left_length, left, right});
    }
  }
  std::sort(merges.begin(), merges.end(), [&](const Merge& a, const Merge& b) {
    if (a.score != b.score) return a.score > b.score;
    if (a.left_length != b.left_length) return a.left_length > b.left_length;
    if (a.right_length != b.right_length) return a.right_length > b.right_length;
    return std::pair(pieces[a.left], pieces[a.right]) < std::pair(pieces[b.left], pieces[b.right]);
  });
  Json list = Json::array();
  for (const auto& merge : merges) list.push_back({merge.left, merge.right});
  return list;
}

Json sentence_piece(const GgufVocabulary& vocabulary, Json& config) {
  const auto scores = vocabulary.file.numbers("tokenizer.ggml.scores");
  if (scores.empty()) throw DataError(vocabulary.path + ": tokenizer.ggml.scores is missing");
  vocabulary.check_length("scores", scores.size());
  const bool prefix = vocabulary.file.boolean("tokenizer.ggml.add_space_prefix").value_or(true);
  const auto replace = [](const char* from, const char* to) {
    return Json{{"type", "Replace"}, {"pattern", {{"String", from}}}, {"content", to}};
  };
  Json json = skeleton(vocabulary);
  json["normalizer"] = replace(" ", kSpaceMark);
  Json decoders = {replace(kSpaceMark, " "), {{"type", "ByteFallback"}}, {{"type", "Fuse"}}};
  if (prefix) {
    json["normalizer"] = {
        {"type", "Sequence"},
        {"normalizers",
         Json::array({{{"type", "Prepend"}, {"prepend", kSpaceMark}}, replace(" ", kSpaceMark)})}};
    decoders.push_back({{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}});
  }
  json["decoder"] = {{"type", "Sequence"}, {"decoders", std::move(decoders)}};
  json["model"] = bpe(vocabulary, merges_of_scores(vocabulary, scores));
  json["model"]["fuse_unk"] = json["model"]["byte_fallback"] = true;
  if (const auto unknown = vocabulary.named("unknown"))
    json["model"]["unk_token"] = vocabulary.tokens[*unknown];
  add_bos_and_eos(vocabulary, /*add_bos=*/true, json, config);
  return json;
}

/// llama.cpp's converter marks the start of a word instead of its continuation.
Json word_piece(const GgufVocabulary& vocabulary, Json& config) {
  std::vector<std::string> tokens = vocabulary.tokens;
  for (auto& token : tokens) {
    if (token.starts_with(kSpaceMark))
      token.erase(0, std::string_view(kSpaceMark).size());
    else if (!(token.starts_with('[') && token.ends_with(']')))
      token = "##" + token;
  }
  Json json = skeleton(vocabulary);
  json["normalizer"] = {{"type", "BertNormalizer"},
                        {"clean_text", true},
                        {"handle_chinese_chars", true},
                        {"strip_accents", nullptr},
                        {"lowercase", true}};
  json["pre_tokenizer"] = {{"type", "BertPreTokenizer"}};
  json["decoder"] = {{"type", "WordPiece"}, {"prefix", "##"}, {"cleanup", true}};
  const auto unknown = vocabulary.named("unknown");
  json["model"] = {{"type", "WordPiece"},
                   {"unk_token", unknown ? vocabulary.tokens[*unknown] : "[UNK]"},
                   {"continuing_subword_prefix", "##"},
                   {"max_input_chars_per_word", 100},
                   {"vocab", token_ids(tokens)}};
  auto before = vocabulary.named("cls"), after = vocabulary.named("seperator");  // GGUF's spelling
  if (!before) before = vocabulary.named("bos");
  if (!after) after = vocabulary.named("eos");
  json["post_processor"] = around(vocabulary, before, after);
  if (before) config["cls_token"] = vocabulary.tokens[*before];
  if (after) config["sep_token"] = vocabulary.tokens[*after];
  return json;
}

}  // namespace

TokenizerFiles tokenizer_files_of_gguf(const std::filesystem::path& path) {
  const GgufFile file(path);
  const auto model = file.string("tokenizer.ggml.model").value_or("");
  if (model != "gpt2" && model != "llama" && model != "bert")
    throw DataError(path.string() + ": tokenizer.ggml.model \"" + model +
                    "\" is not supported (gpt2: byte-level BPE, llama: SentencePiece BPE, bert: "
                    "WordPiece); import the model's Hugging Face folder instead");
  const GgufVocabulary vocabulary(file);
  Json config = {{"tokenizer_class", "PreTrainedTokenizerFast"},
                 {"clean_up_tokenization_spaces", false}};
  for (const auto& [key, name] : {std::pair{"bos", "bos_token"},
                                  {"eos", "eos_token"},
                                  {"unknown", "unk_token"},
                                  {"padding", "pad_token"}})
    if (const auto id = vocabulary.named(key)) config[name] = vocabulary.tokens[*id];
  const Json json = model == "gpt2"    ? byte_level_bpe(vocabulary, config)
                    : model == "llama" ? sentence_piece(vocabulary, config)
                                       : word_piece(vocabulary, config);
  TokenizerFiles files;
  files.name = path.string();
  files.tokenizer_json = json.dump(-1, ' ', false, Json::error_handler_t::replace);
  files.config_json = config.dump();
  files.chat_template = file.string("tokenizer.chat_template").value_or("");
  return files;
}

}  // namespace meed
