#include <nlohmann/json.hpp>
#include <set>

#include "libpolicy/core/error.h"
#include "libpolicy/core/files.h"
#include "libpolicy/text/hf_tokenizer.h"
#include "libpolicy/text/json_reader.h"
#include "libpolicy/text/unicode.h"

namespace meed {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr const char* kNamedTokens[] = {"bos_token", "eos_token", "unk_token", "sep_token",
                                        "pad_token", "cls_token", "mask_token"};

constexpr const char* kToolUseTemplate = "additional_chat_templates/tool_use.jinja";

std::string read_if_there(const fs::path& path) { return fs::exists(path) ? read_file(path) : ""; }

/// tokenizer.json of a BERT folder that has only vocab.txt.
std::string from_vocab_txt(const std::string& text, bool lowercase) {
  Json vocab = Json::object();
  size_t begin = 0;
  for (int64_t id = 0; begin < text.size(); ++id) {
    size_t end = text.find('\n', begin);
    if (end == std::string::npos) end = text.size();
    vocab[unicode::replace_invalid(std::string_view(text).substr(begin, end - begin))] = id;
    begin = end + 1;
  }
  Json added = Json::array();
  for (const char* token : {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"})
    if (vocab.contains(token)) added.push_back({{"id", vocab[token]}, {"content", token}, {"special", true}});
  Json post;
  if (vocab.contains("[CLS]") && vocab.contains("[SEP]"))
    post = {{"type", "BertProcessing"}, {"sep", {"[SEP]", vocab["[SEP]"]}}, {"cls", {"[CLS]", vocab["[CLS]"]}}};
  return Json{{"added_tokens", added},
              {"normalizer", {{"type", "BertNormalizer"}, {"lowercase", lowercase}}},
              {"pre_tokenizer", {{"type", "BertPreTokenizer"}}},
              {"post_processor", post},
              {"decoder", {{"type", "WordPiece"}, {"prefix", "##"}, {"cleanup", true}}},
              {"model", {{"type", "WordPiece"}, {"unk_token", "[UNK]"}, {"continuing_subword_prefix", "##"},
                         {"max_input_chars_per_word", 100}, {"vocab", vocab}}}}
      .dump();
}

/// tokenizer.json of a GPT-2 folder that has only vocab.json and merges.txt.
std::string from_vocab_and_merges(const fs::path& folder) {
  const std::string name = (folder / "vocab.json").string();
  const auto vocab = JsonReader::parse(read_file(name), name);
  if (!vocab.is_object()) vocab.fail("expected an object of token ids");
  const std::string text = read_file(folder / "merges.txt");
  Json merges = Json::array();
  for (size_t begin = 0; begin < text.size();) {
    size_t end = text.find('\n', begin);
    if (end == std::string::npos) end = text.size();
    std::string line = text.substr(begin, end - begin);
    if (line.ends_with('\r')) line.pop_back();
    if (!line.empty() && !line.starts_with("#version")) merges.push_back(unicode::replace_invalid(line));
    begin = end + 1;
  }
  return Json{{"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}}},
              {"decoder", {{"type", "ByteLevel"}}},
              {"model", {{"type", "BPE"}, {"vocab", Json::parse(vocab.dump())}, {"merges", merges}}}}
      .dump();
}

AddedToken token_of(const JsonReader& json) {
  if (json.is_string()) return {.content = json.string(), .special = true};
  return {.content = json.at("content").string(),
          .special = json.boolean("special", true),
          .single_word = json.boolean("single_word", false),
          .lstrip = json.boolean("lstrip", false),
          .rstrip = json.boolean("rstrip", false),
          .normalized = json.boolean("normalized", false)};
}

void read_named_tokens(const JsonReader& json, TokenizerConfig& config) {
  for (const char* name : kNamedTokens) {
    const auto token = json.find(name);
    if (token && !config.named_tokens.contains(name)) {
      config.added.push_back(token_of(*token));
      config.added.back().special = true;
      config.named_tokens[name] = config.added.back().content;
    }
  }
  for (const char* name : {"additional_special_tokens", "extra_special_tokens"}) {
    const auto list = json.find(name);
    if (!list) continue;
    if (list->is_object()) {
      for (const auto& [key, token] : list->members()) {
        config.added.push_back(token_of(token));
        config.named_tokens.emplace(key, config.added.back().content);
      }
      continue;
    }
    for (const auto& token : list->items()) config.added.push_back(token_of(token));
  }
}

void read_chat_template(const JsonReader& json, TokenizerConfig& config) {
  const auto found = json.find("chat_template");
  if (!found) return;
  if (found->is_string()) {
    config.chat_template = found->string();
    return;
  }
  for (const auto& item : found->items()) {
    const std::string name = item.at("name").string(), text = item.at("template").string();
    if (name == "default" || config.chat_template.empty()) config.chat_template = text;
    if (name == "tool_use") config.tool_use_template = text;
  }
}

/// What transformers' classes presume where tokenizer_config.json is silent.
void presume(const std::string& type, TokenizerConfig& config) {
  struct Presumed {
    const char* type;
    const char* name;
    const char* token;
  };
  constexpr Presumed kPresumed[] = {
      {"LlamaTokenizer", "bos_token", "<s>"},           {"LlamaTokenizer", "eos_token", "</s>"},
      {"LlamaTokenizer", "unk_token", "<unk>"},         {"GPT2Tokenizer", "bos_token", "<|endoftext|>"},
      {"GPT2Tokenizer", "eos_token", "<|endoftext|>"},  {"GPT2Tokenizer", "unk_token", "<|endoftext|>"},
      {"Qwen2Tokenizer", "eos_token", "<|endoftext|>"}, {"Qwen2Tokenizer", "pad_token", "<|endoftext|>"},
      {"BertTokenizer", "unk_token", "[UNK]"},          {"BertTokenizer", "sep_token", "[SEP]"},
      {"BertTokenizer", "pad_token", "[PAD]"},          {"BertTokenizer", "cls_token", "[CLS]"},
      {"BertTokenizer", "mask_token", "[MASK]"}};
  for (const auto& [known, name, token] : kPresumed)
    if (type == known || type == std::string(known) + "Fast") config.named_tokens.emplace(name, token);
}

}  // namespace

TokenizerFiles read_tokenizer_files(const fs::path& path) {
  const bool is_folder = fs::is_directory(path);
  const fs::path folder = is_folder ? path : path.parent_path();
  TokenizerFiles files;
  files.name = folder.empty() ? "." : folder.string();
  files.config_json = read_if_there(folder / "tokenizer_config.json");
  files.special_map_json = read_if_there(folder / "special_tokens_map.json");
  files.chat_template = read_if_there(folder / "chat_template.jinja");
  files.tool_use_template = read_if_there(folder / kToolUseTemplate);
  if (!is_folder) {
    files.tokenizer_json = read_file(path);
  } else if (fs::exists(folder / "tokenizer.json")) {
    files.tokenizer_json = read_file(folder / "tokenizer.json");
  } else if (fs::exists(folder / "vocab.json") && fs::exists(folder / "merges.txt")) {
    files.tokenizer_json = from_vocab_and_merges(folder);
  } else if (fs::exists(folder / "vocab.txt")) {
    bool lowercase = true;
    if (!files.config_json.empty())
      lowercase = JsonReader::parse(files.config_json, files.name + "/tokenizer_config.json")
                      .boolean("do_lower_case", true);
    files.tokenizer_json = from_vocab_txt(read_file(folder / "vocab.txt"), lowercase);
  } else {
    throw DataError(folder.string() +
                    ": no tokenizer here; expected tokenizer.json (or vocab.json with merges.txt, or vocab.txt). "
                    "A SentencePiece tokenizer.model has to be converted: save it once with transformers");
  }
  return files;
}

TokenizerConfig read_tokenizer_config(const TokenizerFiles& files) {
  TokenizerConfig config;
  if (!files.config_json.empty()) {
    const auto json = JsonReader::parse(files.config_json, files.name + "/tokenizer_config.json");
    if (const auto tokens = json.find("added_tokens_decoder"))
      for (const auto& [id, token] : tokens->members()) {
        config.added.push_back(token_of(token));
        config.added.back().special = token.boolean("special", false);
      }
    read_named_tokens(json, config);
    read_chat_template(json, config);
    if (const auto flag = json.find("add_bos_token")) config.add_bos = flag->boolean();
    if (const auto flag = json.find("add_eos_token")) config.add_eos = flag->boolean();
    config.clean_up_spaces = json.boolean("clean_up_tokenization_spaces", false);
    config.split_special_tokens = json.boolean("split_special_tokens", false);
    if (const auto type = json.find("tokenizer_class")) presume(type->string(), config);
  }
  if (!files.special_map_json.empty())
    read_named_tokens(JsonReader::parse(files.special_map_json, files.name + "/special_tokens_map.json"), config);
  if (!files.chat_template.empty()) config.chat_template = files.chat_template;
  if (!files.tool_use_template.empty()) config.tool_use_template = files.tool_use_template;
  return config;
}

void HfTokenizer::save(const fs::path& folder) const {
  fs::create_directories(folder);
  Json map = Json::object();
  for (const char* name : kNamedTokens)
    if (const auto found = config_.named_tokens.find(name); found != config_.named_tokens.end())
      map[name] = found->second;
  std::string config = files_.config_json;
  if (config.empty()) {
    Json made = {{"tokenizer_class", "PreTrainedTokenizerFast"}, {"clean_up_tokenization_spaces", false}};
    made.update(map);
    config = made.dump(2) + "\n";
  }
  write_file_atomic(folder / "tokenizer.json", files_.tokenizer_json);
  write_file_atomic(folder / "tokenizer_config.json", config);
  write_file_atomic(folder / "special_tokens_map.json",
                    files_.special_map_json.empty() ? map.dump(2) + "\n" : files_.special_map_json);
  if (!files_.chat_template.empty())
    write_file_atomic(folder / "chat_template.jinja", files_.chat_template);
  if (!files_.tool_use_template.empty()) {
    fs::create_directories((folder / kToolUseTemplate).parent_path());
    write_file_atomic(folder / kToolUseTemplate, files_.tool_use_template);
  }
}

}  // namespace meed
