#include "libpolicy/text/gguf_pre_tokenizer.h"

#include <map>
#include <nlohmann/json.hpp>
#include <vector>

#include "libpolicy/core/error.h"

namespace meed {
namespace {

using Json = nlohmann::ordered_json;

// The regular expressions by which models split text into words before byte-pair encoding.
#define MEED_CONTRACTIONS "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define MEED_SPACES R"(\s*[\r\n]+|\s+(?!\S)|\s+)"
constexpr const char* kLlama3 = MEED_CONTRACTIONS
    R"(|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|)" MEED_SPACES;
constexpr const char* kQwen2 =
    MEED_CONTRACTIONS R"(|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|)" MEED_SPACES;
constexpr const char* kSeedCoder =
    MEED_CONTRACTIONS R"(|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}\r\n]+|)" MEED_SPACES;
constexpr const char* kBailing =
    R"('(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+)";
// Words in which capitals stand only in front.
#define MEED_CAPITALISED \
  R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+)"
#define MEED_CAPITALS \
  R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*)"
constexpr const char* kTekken =
    MEED_CAPITALISED "|" MEED_CAPITALS R"(|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|)" MEED_SPACES;
constexpr const char* kGpt4o = MEED_CAPITALISED MEED_CONTRACTIONS
    "?|" MEED_CAPITALS MEED_CONTRACTIONS R"(?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|)" MEED_SPACES;
constexpr const char* kDeepseek3 =
    R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|)" MEED_SPACES;
constexpr const char* kBloom = " ?[^(\\s|.,!?\u2026\u3002\uff0c\u3001\u0964\u06d4\u060c)]+";

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

Json digits(bool individual) { return {{"type", "Digits"}, {"individual_digits", individual}}; }

Json sequence(std::vector<Json> steps) {
  return {{"type", "Sequence"}, {"pretokenizers", std::move(steps)}};
}

Json words(const char* regex) { return sequence({split(regex), byte_level(false)}); }

Json deepseek3() {
  return sequence({split("\\p{N}{1,3}"), split("[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+"),
                   split(kDeepseek3), byte_level(false)});
}

Json deepseek_coder() {
  return sequence({split("[\\r\\n]"), split("\\s?\\p{L}+"), split("\\s?\\p{P}+"),
                   split("[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+"), digits(true),
                   byte_level(false)});
}

Json falcon() {
  return sequence({{{"type", "Punctuation"}, {"behavior", "Contiguous"}},
                   byte_level(true),
                   digits(false),
                   split("[0-9][0-9][0-9]")});
}

struct Named {
  std::vector<std::string> names;
  Json pre_tokenizer;
  bool nfc = false, ignore_merges = false, add_bos = false;
};

std::vector<Named> known() {
  const Json gpt2 = byte_level(true), smollm = sequence({digits(true), byte_level(true)});
  return {
      {{"", "default", "gpt-2", "phi-2", "jina-es", "jina-de", "jina-v1-en", "jina-v2-es",
        "jina-v2-de", "jina-v2-code", "roberta-bpe", "gigachat", "a.x-4.0", "mellum", "exaone4",
        "jais", "trillion", "granite-docling"},
       gpt2},
      {{"mpt", "olmo"}, gpt2, /*nfc=*/true},
      {{"smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"}, smollm},
      {{"llama3", "llama-v3", "llama-bpe", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2",
        "jina-v5-nano"},
       words(kLlama3),
       /*nfc=*/false,
       /*ignore_merges=*/true,
       /*add_bos=*/true},
      {{"dbrx", "smaug-bpe", "glm4", "chatglm-bpe"}, words(kLlama3)},
      {{"qwen2", "deepseek-r1-qwen", "kormo", "megrez"}, words(kQwen2), /*nfc=*/true},
      {{"stablelm2", "hunyuan", "grok-2"}, words(kQwen2)},
      {{"tekken"}, words(kTekken), /*nfc=*/false, /*ignore_merges=*/true, /*add_bos=*/true},
      {{"gpt-4o", "llama4", "minimax-m2"}, words(kGpt4o)},
      {{"deepseek-v3", "hunyuan-dense"}, deepseek3()},
      {{"deepseek-coder"}, deepseek_coder()},
      {{"seed-coder"}, words(kSeedCoder)},
      {{"bailingmoe", "bailingmoe2", "llada-moe"}, words(kBailing)},
      {{"falcon"}, falcon()},
      {{"bloom", "poro-chat", "gpt3-finnish"}, words(kBloom)},
      {{"viking"}, sequence({split(kBloom), digits(true), byte_level(false)})}};
}

}  // namespace

GgufPreTokenizer gguf_pre_tokenizer(const std::string& pre, const std::string& path) {
  std::string supported;
  for (const auto& entry : known())
    for (const auto& name : entry.names) {
      if (name == pre)
        return {entry.pre_tokenizer.dump(), entry.nfc, entry.ignore_merges, entry.add_bos};
      if (!name.empty()) supported += (supported.empty() ? "" : ", ") + name;
    }
  throw DataError(path + ": tokenizer.ggml.pre \"" + pre + "\" is not supported (" + supported +
                  "); import the model's Hugging Face folder instead");
}

}  // namespace meed
