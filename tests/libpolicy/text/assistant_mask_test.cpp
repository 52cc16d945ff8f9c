// Values by transformers: tests/golden/make_assistant_mask_golden.py says how they were made.
#include "libpolicy/text/assistant_mask.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "libpolicy/core/error.h"
#include "libpolicy/core/files.h"
#include "libpolicy/text/chat_template.h"
#include "libpolicy/text/hf_tokenizer.h"

namespace meed {
namespace {

using Json = nlohmann::ordered_json;

const std::filesystem::path kGolden = std::filesystem::path(MEED_SOURCE_DIR) / "tests/golden";

HfTokenizer tokenizer_with(const std::string& chat_template) {
  static const auto text = Json::parse(read_file(kGolden / "text_golden.json"));
  for (const auto& entry : text["tokenizers"]) {
    if (entry["name"] != "qwen2") continue;
    Json json = entry["pipeline"];
    json["model"] = text["models"][entry["model"].get<std::string>()];
    json["model"].update(entry["changes"]);
    return HfTokenizer(
        {.name = "qwen2", .tokenizer_json = json.dump(), .chat_template = chat_template});
  }
  throw DataError("text_golden.json has no tokenizer qwen2");
}

Content conversation_of(const Json& json) {
  Content content{.conversational = true};
  for (const auto& each : json) content.messages.push_back({each["role"], each["content"], ""});
  return content;
}

/// The text of the masked tokens, runs apart.
std::string masked_text(const Tokenizer& tokenizer, const MaskedConversation& masked) {
  std::string text;
  std::vector<int64_t> run;
  for (size_t i = 0; i <= masked.ids.size(); ++i) {
    if (i < masked.ids.size() && masked.assistant[i] != 0) {
      run.push_back(masked.ids[i]);
    } else if (!run.empty()) {
      text += "[" + tokenizer.decode(run, /*skip_special_tokens=*/false) + "]";
      run.clear();
    }
  }
  return text;
}

std::string problem_of(const std::string& chat_template, const Content& conversation) {
  try {
    encode_assistant_mask(tokenizer_with(chat_template), conversation);
  } catch (const DataError& e) {
    return e.what();
  }
  return "";
}

TEST(AssistantMask, GenerationBlocksAreThoseOfTransformers) {
  const auto golden = Json::parse(read_file(kGolden / "assistant_mask_golden.json"));
  for (const auto& row : golden["rows"]) {
    const auto tokenizer = tokenizer_with(row["source"]);
    const auto conversation =
        conversation_of(golden["conversations"][row["conversation"].get<size_t>()]);
    const auto masked = encode_assistant_mask(tokenizer, conversation);
    const auto where = row["name"].get<std::string>() + " " + row["conversation"].dump();
    EXPECT_EQ(masked.ids, row["ids"].get<std::vector<int64_t>>()) << where;
    EXPECT_EQ(masked.ids, encode_messages(tokenizer, conversation.messages, false)) << where;
    EXPECT_EQ(masked.assistant, row["mask"].get<std::vector<uint8_t>>()) << where;
  }
}

constexpr const char* kChatMl =
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>' + '\n' "
    "}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

TEST(AssistantMask, WithoutBlocksTurnsReachFromTheGenerationPromptToTheirEnd) {
  const auto tokenizer = tokenizer_with(kChatMl);
  const auto conversation = conversation_of({{{"role", "user"}, {"content", "a"}},
                                             {{"role", "assistant"}, {"content", "the cat"}},
                                             {{"role", "user"}, {"content", "b"}},
                                             {{"role", "assistant"}, {"content", "dog"}}});
  const auto masked = encode_assistant_mask(tokenizer, conversation);
  EXPECT_EQ(masked_text(tokenizer, masked), "[the cat<|im_end|>\n][dog<|im_end|>\n]");
  EXPECT_EQ(masked.ids, encode_messages(tokenizer, conversation.messages, false));
}

TEST(AssistantMask, MessagesCannotMoveTheBlocks) {
  const std::string blocks =
      "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}|{% endfor %}";
  const auto with = [](const std::string& text) {
    return conversation_of({{{"role", "assistant"}, {"content", text}}});
  };
  EXPECT_EQ(problem_of(blocks, with("a\uFDEF b")),
            "chat template: a message holds U+FDEE or U+FDEF, which mark the assistant's text; "
            "remove them");
  const auto tokenizer = tokenizer_with(blocks);
  const auto masked = encode_assistant_mask(tokenizer, with("{% endgeneration %}<|im_end|>"));
  EXPECT_EQ(masked_text(tokenizer, masked), "[{% endgeneration %}<|im_end|>]");
  for (const int64_t id : masked.ids) EXPECT_FALSE(tokenizer.is_special(id));
}

TEST(AssistantMask, TemplatesThatDoNotFitAreNamed) {
  const auto conversation = conversation_of(
      {{{"role", "user"}, {"content", "a"}}, {{"role", "assistant"}, {"content", "b"}}});
  EXPECT_EQ(problem_of("{% for m in messages %}{% generation %}{{ m.content }}{% endfor %}",
                       conversation),
            "chat template: its generation blocks overlap");
  EXPECT_EQ(problem_of("{% generation %}a", conversation),
            "chat template: a generation block is not closed");
  EXPECT_NE(problem_of("{{ messages | length }}{% for m in messages %}{{ m.content }}{% endfor %}",
                       conversation)
                .find("assistant_only_loss: the chat template renders the first 1 messages "
                      "otherwise alone"),
            std::string::npos);
  EXPECT_NE(problem_of("", conversation).find("no chat template"), std::string::npos);
}

}  // namespace
}  // namespace meed
