// Values by Hugging Face's tokenizers: tests/golden/make_text_golden.py says how they were made.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "libpolicy/core/error.h"
#include "libpolicy/core/files.h"
#include "libpolicy/core/random.h"
#include "libpolicy/text/hf_tokenizer.h"
#include "libpolicy/text/unicode.h"

namespace meed {
namespace {

using Json = nlohmann::ordered_json;

const Json& golden() {
  static const auto json = Json::parse(
      read_file(std::filesystem::path(MEED_SOURCE_DIR) / "tests/golden/text_golden.json"));
  return json;
}

Json tokenizer_json(const Json& entry) {
  Json json = entry["pipeline"];
  json["model"] = golden()["models"][entry["model"].get<std::string>()];
  json["model"].update(entry["changes"]);
  return json;
}

HfTokenizer make(const Json& entry) {
  return HfTokenizer(
      {.name = entry["name"].get<std::string>(), .tokenizer_json = tokenizer_json(entry).dump()});
}

TEST(GoldenTokenizer, IdsAndTextsAreThoseOfTokenizers) {
  for (const auto& entry : golden()["tokenizers"]) {
    const auto tokenizer = make(entry);
    ASSERT_EQ(entry["rows"].size(), golden()["texts"].size());
    for (size_t i = 0; i < entry["rows"].size(); ++i) {
      const auto& row = entry["rows"][i];
      const auto text = golden()["texts"][i].get<std::string>();
      const auto where = entry["name"].get<std::string>() + ": \"" + text + "\"";
      const auto ids = row["ids"].get<std::vector<int64_t>>();
      EXPECT_EQ(tokenizer.encode(text, {.parse_special = true, .add_special_tokens = true}), ids)
          << where;
      if (row.contains("plain")) {
        EXPECT_EQ(tokenizer.encode(text), row["plain"].get<std::vector<int64_t>>()) << where;
      }
      EXPECT_EQ(tokenizer.decode(ids, /*skip_special_tokens=*/false), row["decoded"]) << where;
      EXPECT_EQ(tokenizer.decode(ids, /*skip_special_tokens=*/true),
                row.contains("skipped") ? row["skipped"] : row["decoded"])
          << where;
    }
  }
}

TEST(GoldenTokenizer, PlainTextNeverBecomesASpecialToken) {
  RandomStream random(5);
  for (const auto& entry : golden()["tokenizers"]) {
    const auto tokenizer = make(entry);
    std::vector<std::string> parts = {" ", "a", "|", "<", ">", "\xCC\x81", "\n"};
    for (int64_t id = 0; id < tokenizer.vocab_size(); ++id)
      if (tokenizer.is_special(id)) parts.push_back(tokenizer.id_to_token(id));
    ASSERT_GT(parts.size(), 7u);
    // WordPiece's answer to what it does not know is the one special token that text can become.
    const auto unknown = tokenizer.token_to_id("[UNK]"),
               unknown_piece = tokenizer.token_to_id("<unk>");
    for (int round = 0; round < 200; ++round) {
      std::string text;
      for (int64_t n = random.next_int(1, 12); n > 0; --n) {
        std::string part =
            parts[static_cast<size_t>(random.next_int(0, static_cast<int64_t>(parts.size()) - 1))];
        if (random.next_int(0, 3) == 0) part = part.substr(0, part.size() / 2);
        text += part;
      }
      for (const int64_t id : tokenizer.encode(text))
        EXPECT_TRUE(!tokenizer.is_special(id) || id == unknown || id == unknown_piece)
            << entry["name"] << ": \"" << text << "\" holds " << tokenizer.id_to_token(id);
    }
  }
}

TEST(GoldenTokenizer, StreamedTextIsTheDecodedText) {
  RandomStream random(7);
  for (const auto& entry : golden()["tokenizers"]) {
    const auto tokenizer = make(entry);
    for (int round = 0; round < 300; ++round) {
      std::vector<int64_t> ids;
      for (int64_t n = random.next_int(0, 20); n > 0; --n)
        ids.push_back(random.next_int(0, tokenizer.vocab_size() - 1));
      const bool skip = round % 2 == 0;
      IncrementalDecoder decoder(tokenizer, skip);
      std::string streamed;
      for (const int64_t id : ids) {
        const auto text = decoder.push(id);
        EXPECT_EQ(unicode::valid_prefix(text), text.size());
        streamed += text;
      }
      streamed += decoder.finish();
      const auto whole = tokenizer.decode(ids, skip);
      // Of byte tokens with a wrong one among them decode() loses also the right ones.
      if (entry["model"] == "pieces" && whole.find("\uFFFD") != std::string::npos) continue;
      EXPECT_EQ(streamed, whole) << entry["name"] << " " << Json(ids);
    }
  }
}

TEST(GoldenTokenizer, InvalidUtf8IsReadAsReplacementCharacters) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"a\xFF"
       "b",
       "a\uFFFD"
       "b"},
      {"\xC3", "\uFFFD"},
      {"\xE4\xBD", "\uFFFD"},
      {"\xE4\xBD"
       "a",
       "\uFFFD"
       "a"},
      {"\xF0\x9F\x98", "\uFFFD"},
      {"\xC0\xAF", "\uFFFD\uFFFD"},
      {"\xED\xA0\x80", "\uFFFD\uFFFD\uFFFD"},
      {"\xF4\x90\x80\x80", "\uFFFD\uFFFD\uFFFD\uFFFD"}};
  for (const auto& entry : golden()["tokenizers"]) {
    const auto tokenizer = make(entry);
    for (const auto& [wrong, repaired] : cases)
      EXPECT_EQ(tokenizer.encode(wrong), tokenizer.encode(repaired)) << entry["name"];
  }
}

TEST(GoldenTokenizer, WhatIsNotSupportedIsNamed) {
  auto json = tokenizer_json(golden()["tokenizers"][0]);
  const auto problem = [&](const std::string& part, const Json& value) {
    auto changed = json;
    changed[part] = value;
    try {
      HfTokenizer({.name = "folder", .tokenizer_json = changed.dump()});
    } catch (const DataError& e) {
      return std::string(e.what());
    }
    return std::string();
  };
  EXPECT_EQ(problem("normalizer", {{"type", "Precompiled"}}),
            "folder/tokenizer.json: normalizer.type: normalizer \"Precompiled\" is not supported");
  EXPECT_EQ(problem("pre_tokenizer", {{"type", "UnicodeScripts"}}),
            "folder/tokenizer.json: pre_tokenizer.type: pre-tokenizer \"UnicodeScripts\" is not "
            "supported");
  EXPECT_EQ(problem("decoder", {{"type", "CTC"}}),
            "folder/tokenizer.json: decoder.type: decoder \"CTC\" is not supported");
  EXPECT_EQ(problem("post_processor", {{"type", "New"}}),
            "folder/tokenizer.json: post_processor.type: post-processor \"New\" is not supported");
  EXPECT_EQ(problem("model", {{"type", "New"}}),
            "folder/tokenizer.json: model.type: model \"New\" is not supported");
}

/// Damaged files of any kind end in DataError or in a tokenizer that works; never otherwise.
TEST(GoldenTokenizer, DamagedFilesAreRefusedOrWork) {
  RandomStream random(11);
  for (const auto& entry : golden()["tokenizers"]) {
    Json whole = tokenizer_json(entry);
    whole["model"]["vocab"] = {{"a", 0}, {"b", 1}, {"ab", 2}, {"[UNK]", 3}, {"<unk>", 4}};
    if (whole["model"].contains("merges")) whole["model"]["merges"] = {"a b"};
    const std::string good = whole.dump();
    for (int round = 0; round < 60; ++round) {
      std::string text = good;
      for (int64_t n = random.next_int(1, 3); n > 0; --n) {
        if (text.empty()) break;
        const auto at =
            static_cast<size_t>(random.next_int(0, static_cast<int64_t>(text.size()) - 1));
        constexpr std::string_view kBytes = "\"{}[]:,0-9eatfn\\ \xFF\x00";
        switch (random.next_int(0, 3)) {
          case 0:
            text.resize(at + 1);
            break;
          case 1:
            text.erase(at, static_cast<size_t>(random.next_int(1, 20)));
            break;
          default:
            text[at] = kBytes[static_cast<size_t>(random.next_int(0, 19))];
        }
      }
      try {
        const HfTokenizer tokenizer({.name = "damaged", .tokenizer_json = text});
        const auto ids = tokenizer.encode("ab [UNK] ba <|im_end|>",
                                          {.parse_special = true, .add_special_tokens = true});
        tokenizer.decode(ids, /*skip_special_tokens=*/false);
      } catch (const DataError&) {
      }
    }
  }
}

}  // namespace
}  // namespace meed
