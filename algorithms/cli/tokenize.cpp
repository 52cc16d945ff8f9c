#include <memory>

#include "algorithms/cli/command.h"
#include "algorithms/cli/content.h"
#include "libpolicy/core/error.h"
#include "libpolicy/text/chat_template.h"
#include "libpolicy/text/tokenizer.h"

namespace meed::cli {
namespace {

struct Options {
  RowOptions rows;
  std::string model;
  bool add_special_tokens = false, no_parse_special = false, add_generation_prompt = false,
       decode = false, skip_special_tokens = false;
};

std::vector<int64_t> ids_of(const Row& row, const Tokenizer& tokenizer) {
  if (!row.json.contains("ids") || !row.json["ids"].is_array())
    throw DataError(row.where + ": expected \"ids\", a list of token ids");
  std::vector<int64_t> ids;
  for (const auto& id : row.json["ids"]) {
    if (!id.is_number_integer()) throw DataError(row.where + ": \"ids\": expected integers");
    ids.push_back(id.get<int64_t>());
    if (ids.back() < 0 || ids.back() >= tokenizer.vocab_size())
      throw DataError(row.where + ": \"ids\": " + id.dump() + " is outside the vocabulary of " +
                      std::to_string(tokenizer.vocab_size()));
  }
  return ids;
}

nlohmann::ordered_json encode_row(const Row& row, const Options& options,
                                  const Tokenizer& tokenizer) {
  if (row.json.contains("messages")) {
    const auto content = content_of(row, "messages");
    if (!content.conversational)
      throw DataError(row.where + ": \"messages\": expected a list of messages");
    return {{"ids", encode_messages(tokenizer, content.messages, options.add_generation_prompt, content.tools)}};
  }
  if (!row.json.contains("text") || !row.json["text"].is_string())
    throw DataError(row.where + ": expected \"text\", a string, or \"messages\"");
  return {{"ids", tokenizer.encode(row.json["text"].get<std::string>(),
                                   {.parse_special = !options.no_parse_special,
                                    .add_special_tokens = options.add_special_tokens})}};
}

void setup(CLI::App& app) {
  auto options = std::make_shared<Options>();
  app.add_option("--model", options->model, "Hugging Face folder, tokenizer.json or .gguf file")
      ->required();
  app.add_flag("--add-special-tokens", options->add_special_tokens,
               "Add what the model expects around a text (BOS, [CLS] ...)");
  app.add_flag("--no-parse-special", options->no_parse_special,
               "Special tokens written in a text stay plain text (as in messages, always)");
  app.add_flag("--add-generation-prompt", options->add_generation_prompt,
               "End messages with the start of an answer");
  app.add_flag("--decode", options->decode, "Token ids to text");
  app.add_flag("--skip-special-tokens", options->skip_special_tokens,
               "Leave special tokens out of decoded text");
  options->rows.add_to(app);
  app.callback([options] {
    const auto tokenizer = Tokenizer::load(options->model);
    for_each_rows(options->rows, 1,
                  [&](std::vector<Row>& rows) -> std::vector<nlohmann::ordered_json> {
                    if (options->decode)
                      return {{{"text", tokenizer->decode(ids_of(rows[0], *tokenizer),
                                                          options->skip_special_tokens)}}};
                    return {encode_row(rows[0], *options, *tokenizer)};
                  });
  });
}

const bool registered =
    add_command({"tokenize", "Texts and conversations to token ids, and back", setup});

}  // namespace
}  // namespace meed::cli
