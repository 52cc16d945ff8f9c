// Values by SentencePiece: tests/golden/make_gguf_golden.py says how they were made.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "libpolicy/core/error.h"
#include "libpolicy/core/files.h"
#include "libpolicy/text/byte_level.h"
#include "libpolicy/text/chat_template.h"
#include "libpolicy/text/gguf_pre_tokenizer.h"
#include "libpolicy/text/hf_tokenizer.h"
#include "tests/libpolicy/gguf_writer.h"

namespace meed {
namespace {

namespace fs = std::filesystem;
using testing::GgufWriter;

class GgufTokenizer : public ::testing::Test {
 protected:
  void SetUp() override {
    path_ = fs::temp_directory_path() / ("meed-tokenizer-" + std::to_string(::getpid()) + ".gguf");
  }
  void TearDown() override {
    fs::remove(path_);
    fs::remove_all(folder());
  }
  fs::path folder() const { return path_.string() + ".folder"; }
  std::unique_ptr<Tokenizer> load(const GgufWriter& writer) const {
    writer.write(path_);
    return Tokenizer::load(path_);
  }
  std::string problem_of(const GgufWriter& writer) const {
    try {
      load(writer);
    } catch (const DataError& e) {
      const std::string message = e.what();
      EXPECT_EQ(message.find(path_.string()), 0u) << message;
      return message.substr(std::min(message.size(), path_.string().size()));
    }
    return "";
  }
  fs::path path_;
};

const nlohmann::json& golden() {
  static const auto json = nlohmann::json::parse(
      read_file(fs::path(MEED_SOURCE_DIR) / "tests/golden/gguf_golden.json"))["sentence_piece"];
  return json;
}

GgufWriter sentence_piece(const nlohmann::json& entry) {
  GgufWriter writer;
  writer.add("general.architecture", "llama");
  writer.add("tokenizer.ggml.model", "llama");
  writer.add("tokenizer.ggml.tokens", entry["tokens"].get<std::vector<std::string>>());
  writer.add("tokenizer.ggml.scores", entry["scores"].get<std::vector<float>>());
  writer.add("tokenizer.ggml.token_type", entry["types"].get<std::vector<int32_t>>());
  writer.add("tokenizer.ggml.bos_token_id", entry["bos"].get<uint32_t>());
  writer.add("tokenizer.ggml.eos_token_id", entry["eos"].get<uint32_t>());
  writer.add("tokenizer.ggml.unknown_token_id", entry["unknown"].get<uint32_t>());
  if (!entry["add_space_prefix"].get<bool>()) writer.add("tokenizer.ggml.add_space_prefix", false);
  return writer;
}

TEST_F(GgufTokenizer, PiecesAreThoseOfSentencePiece) {
  for (const auto& entry : golden()) {
    const auto tokenizer = load(sentence_piece(entry));
    tokenizer->save(folder());
    const auto again = Tokenizer::load(folder());
    for (const auto& row : entry["rows"]) {
      const auto text = row["text"].get<std::string>();
      auto ids = row["ids"].get<std::vector<int64_t>>();
      EXPECT_EQ(tokenizer->encode(text), ids) << text;
      EXPECT_EQ(tokenizer->decode(ids), row["decoded"].get<std::string>()) << text;
      EXPECT_EQ(again->encode(text), ids) << text;
      ids.insert(ids.begin(), entry["bos"].get<int64_t>());
      EXPECT_EQ(tokenizer->encode(text, {.add_special_tokens = true}), ids) << text;
      EXPECT_EQ(again->encode(text, {.add_special_tokens = true}), ids) << text;
    }
  }
}

TEST_F(GgufTokenizer, SpecialTokensComeOnlyWhereTheyAreAskedFor) {
  const auto& entry = golden()[0];
  const auto tokenizer = load(sentence_piece(entry));
  EXPECT_EQ(tokenizer->bos_id(), entry["bos"].get<int64_t>());
  EXPECT_EQ(tokenizer->eos_id(), entry["eos"].get<int64_t>());
  for (const int64_t id : tokenizer->encode("<s>the</s><0x41>"))
    EXPECT_FALSE(tokenizer->is_special(id));
  const auto parsed = tokenizer->encode("the</s>", {.parse_special = true});
  EXPECT_EQ(parsed.back(), entry["eos"].get<int64_t>());
  // What the model's makers added to the vocabulary is one token, also in plain text.
  const auto tool = tokenizer->token_to_id("<tool>");
  const auto ids = tokenizer->encode("the<tool>cat", {.parse_special = true});
  EXPECT_EQ(std::count(ids.begin(), ids.end(), *tool), 1);
}

TEST_F(GgufTokenizer, FlagsSayWhatIsPutAroundATextAndWhatIsNot) {
  auto writer = sentence_piece(golden()[0]);
  writer.add("tokenizer.ggml.add_bos_token", false);
  writer.add("tokenizer.ggml.add_eos_token", true);
  const auto tokenizer = load(writer);
  const auto ids = tokenizer->encode("the cat", {.add_special_tokens = true});
  EXPECT_NE(ids.front(), *tokenizer->bos_id());
  EXPECT_EQ(ids.back(), *tokenizer->eos_id());
}

/// Byte-level BPE without merges: a token a byte, so that words show as nothing but their bytes.
GgufWriter byte_level_bpe(const std::string& pre) {
  std::vector<std::string> tokens;
  for (int byte = 0; byte < 256; ++byte)
    tokens.push_back(byte_level::character(static_cast<uint8_t>(byte)));
  tokens.insert(tokens.end(), {"12", "123", "1234", "<bos>", "<eos>"});
  std::vector<int32_t> types(tokens.size(), 1);
  types[tokens.size() - 1] = types[tokens.size() - 2] = 3;
  GgufWriter writer;
  writer.add("tokenizer.ggml.model", "gpt2");
  writer.add("tokenizer.ggml.pre", pre);
  writer.add("tokenizer.ggml.tokens", tokens);
  writer.add("tokenizer.ggml.token_type", types);
  writer.add("tokenizer.ggml.merges", std::vector<std::string>{"1 2", "12 3", "123 4"});
  writer.add("tokenizer.ggml.bos_token_id", uint32_t{259});
  writer.add("tokenizer.ggml.eos_token_id", uint32_t{260});
  return writer;
}

TEST_F(GgufTokenizer, PreTokenizersCutNumbersAsTheirModelsDo) {
  const auto tokens_of = [&](const std::string& pre, const std::string& text) {
    const auto tokenizer = load(byte_level_bpe(pre));
    std::string joined;
    for (const int64_t id : tokenizer->encode(text)) joined += tokenizer->id_to_token(id) + "|";
    return joined;
  };
  for (const std::string pre : {"gpt-2", "falcon", "deepseek-coder", "bloom", "olmo"}) {
    const auto found = tokens_of(pre, "12345");
    EXPECT_EQ(found, pre == "falcon"           ? "123|4|5|"
                     : pre == "deepseek-coder" ? "1|2|3|4|5|"
                                               : "1234|5|")
        << pre;
  }
  for (const std::string pre : {"llama-bpe", "dbrx", "gpt-4o", "deepseek-v3"})
    EXPECT_EQ(tokens_of(pre, "12345"), "123|4|5|") << pre;
  for (const std::string pre :
       {"smollm", "command-r", "qwen2", "tekken", "seed-coder", "bailingmoe", "viking"})
    EXPECT_EQ(tokens_of(pre, "12345"), "1|2|3|4|5|") << pre;
}

TEST_F(GgufTokenizer, ModelsThatWantABosGetOne) {
  for (const auto& [pre, wanted] :
       {std::pair<std::string, bool>{"llama-bpe", true}, {"tekken", true}, {"qwen2", false}}) {
    auto writer = byte_level_bpe(pre);
    const auto with_bos = [&](const GgufWriter& gguf) {
      return load(gguf)->encode("a", {.add_special_tokens = true}).front() == 259;
    };
    EXPECT_EQ(with_bos(writer), wanted) << pre;
    writer.add("tokenizer.ggml.add_bos_token", !wanted);
    EXPECT_EQ(with_bos(writer), !wanted) << pre;
  }
}

TEST_F(GgufTokenizer, WordPiecesAreReadBackFromLlamaCppsSpelling) {
  GgufWriter writer;
  writer.add("tokenizer.ggml.model", "bert");
  writer.add("tokenizer.ggml.tokens",
             std::vector<std::string>{"[PAD]", "[UNK]", "[CLS]", "[SEP]", "\u2581play", "ing",
                                      "\u2581the", "\u2581."});
  writer.add("tokenizer.ggml.token_type", std::vector<int32_t>{3, 2, 3, 3, 1, 1, 1, 1});
  writer.add("tokenizer.ggml.cls_token_id", uint32_t{2});
  writer.add("tokenizer.ggml.seperator_token_id", uint32_t{3});
  writer.add("tokenizer.ggml.unknown_token_id", uint32_t{1});
  const auto tokenizer = load(writer);
  EXPECT_EQ(tokenizer->encode("The playing. xyz", {.add_special_tokens = true}),
            (std::vector<int64_t>{2, 6, 4, 5, 7, 1, 3}));
  EXPECT_EQ(tokenizer->decode(std::vector<int64_t>{6, 4, 5, 7}), "the playing.");
}

TEST_F(GgufTokenizer, WhatCannotBeReadIsNamed) {
  GgufWriter unigram;
  unigram.add("tokenizer.ggml.model", "t5");
  EXPECT_EQ(problem_of(unigram),
            ": tokenizer.ggml.model \"t5\" is not supported (gpt2: byte-level BPE, llama: "
            "SentencePiece BPE, bert: WordPiece); import the model's Hugging Face folder instead");
  EXPECT_EQ(problem_of(byte_level_bpe("kimi-k2"))
                .find(": tokenizer.ggml.pre \"kimi-k2\" is not supported ("),
            0u);
  GgufWriter empty;
  empty.add("tokenizer.ggml.model", "llama");
  EXPECT_EQ(problem_of(empty), ": tokenizer.ggml.tokens is missing");
  empty.add("tokenizer.ggml.tokens", std::vector<std::string>{"a", "b"});
  EXPECT_EQ(problem_of(empty), ": tokenizer.ggml.scores is missing");
  empty.add("tokenizer.ggml.scores", std::vector<float>{0.0f});
  EXPECT_EQ(problem_of(empty), ": tokenizer.ggml.scores has 1 entries, tokenizer.ggml.tokens 2");
}

}  // namespace
}  // namespace meed
