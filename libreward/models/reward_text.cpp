#include "libreward/models/reward_text.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "libpolicy/core/error.h"
#include "libpolicy/text/chat_template.h"
#include "libpolicy/text/tokenizer.h"

namespace meed {
namespace {

constexpr const char* kPoolings[] = {"last", "mean", "prompt_end", "steps"};
constexpr const char* kAggregates[] = {"min", "product", "last", "mean", "geometric_mean"};

template <size_t N>
bool is_one_of(const std::string& value, const char* const (&known)[N]) {
  return std::find(std::begin(known), std::end(known), value) != std::end(known);
}

/// The prompt with the reference behind it, where the format asks for one.
Content with_reference(const RewardFormat& format, const Example& example) {
  auto prompt = example.prompt;
  if (format.reference_column.empty()) return prompt;
  const auto found = example.extra.find(format.reference_column);
  if (found == example.extra.end() || found->second.empty())
    throw DataError("row " + std::to_string(example.row + 1) + ": column \"" +
                    format.reference_column + "\" (the reference) is missing or empty");
  const auto text = "\n\nReference answer: " + found->second + "\n\n";
  if (!prompt.conversational) {
    prompt.text += text;
  } else if (prompt.messages.empty()) {
    prompt.messages.push_back({"user", text, ""});
  } else {
    prompt.messages.back().content += text;
  }
  return prompt;
}

RewardText encode_for_encoder(const Tokenizer& tokenizer, const Content& prompt,
                              const Content& completion) {
  const auto separator = tokenizer.token_to_id("[SEP]");
  if (!separator)
    throw DataError("the encoder's tokenizer has no [SEP]; only BERT's kind is supported");
  RewardText text;
  const auto add = [&](std::vector<int64_t>& ids, const Content& content) {
    if (content.empty()) return;
    ids = tokenizer.encode(as_text(content, "\n"));
    ids.push_back(*separator);
  };
  add(text.prompt_ids, prompt);
  add(text.completion_ids, completion);
  return text;
}

}  // namespace

std::vector<std::string> split_steps(const std::string& text, const std::string& separator) {
  std::vector<std::string> steps;
  for (size_t at = 0; at < text.size();) {
    const auto end = separator.empty() ? std::string::npos : text.find(separator, at);
    auto step = text.substr(at, end == std::string::npos ? end : end - at);
    if (step.find_first_not_of(" \t\r\n") != std::string::npos) steps.push_back(std::move(step));
    if (end == std::string::npos) break;
    at = end + separator.size();
  }
  return steps;
}

RewardText encode_reward_text(const Tokenizer& tokenizer, const RewardFormat& format,
                              RewardReader reader, const Example& example,
                              const Content& completion) {
  const auto prompt = with_reference(format, example);
  if (reader == RewardReader::kEncoder) return encode_for_encoder(tokenizer, prompt, completion);
  if (format.pooling != "steps") {
    auto pair = encode_pair(tokenizer, prompt, completion);
    return {std::move(pair.prompt_ids), std::move(pair.completion_ids), {}};
  }
  RewardText text;
  if (!prompt.empty()) text.prompt_ids = encode_prompt(tokenizer, prompt);
  const auto steps = completion.empty()
                         ? example.completions
                         : split_steps(completion.conversational && !completion.messages.empty()
                                           ? completion.messages.back().content
                                           : completion.text,
                                       format.step_separator);
  for (const auto& step : steps) {
    const auto ids = tokenizer.encode(step + format.step_separator);
    text.completion_ids.insert(text.completion_ids.end(), ids.begin(), ids.end());
    text.step_ends.push_back(static_cast<int64_t>(text.completion_ids.size()) - 1);
  }
  return text;
}

int64_t truncate_reward_text(RewardText& text, int64_t max_length) {
  EncodedPair pair{std::move(text.prompt_ids), std::move(text.completion_ids)};
  const auto before = static_cast<int64_t>(pair.completion_ids.size());
  truncate_start(pair, max_length);
  const auto cut = before - static_cast<int64_t>(pair.completion_ids.size());
  text.prompt_ids = std::move(pair.prompt_ids);
  text.completion_ids = std::move(pair.completion_ids);
  for (auto& end : text.step_ends) end -= cut;
  return static_cast<int64_t>(std::erase_if(text.step_ends, [](int64_t end) { return end < 0; }));
}

std::string RewardFormat::to_json(const std::string& head_yaml) const {
  nlohmann::ordered_json json = {{"head", head_yaml}, {"pooling", pooling}};
  if (pooling == "steps") {
    json["step_separator"] = step_separator;
    json["step_aggregate"] = step_aggregate;
  }
  if (!reference_column.empty()) json["reference_column"] = reference_column;
  if (probability) json["probability"] = true;
  return json.dump(2) + "\n";
}

RewardFormat RewardFormat::from_json(const std::string& text, const std::string& where) {
  const auto json = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) throw DataError(where + ": not a JSON object");
  RewardFormat format;
  const auto read = [&](const char* key, std::string& value) {
    if (!json.contains(key)) return;
    if (!json[key].is_string()) throw DataError(where + ": \"" + key + "\": expected a string");
    value = json[key].get<std::string>();
  };
  read("pooling", format.pooling);
  read("step_separator", format.step_separator);
  read("step_aggregate", format.step_aggregate);
  read("reference_column", format.reference_column);
  if (json.contains("probability")) {
    if (!json["probability"].is_boolean())
      throw DataError(where + ": \"probability\": expected true or false");
    format.probability = json["probability"].get<bool>();
  }
  if (!is_one_of(format.pooling, kPoolings))
    throw DataError(where + ": unknown pooling \"" + format.pooling + "\"");
  if (!is_one_of(format.step_aggregate, kAggregates))
    throw DataError(where + ": unknown step_aggregate \"" + format.step_aggregate + "\"");
  return format;
}

}  // namespace meed
