#include "libreward/curation/short_to_long.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "libpolicy/core/error.h"
#include "libpolicy/core/random.h"
#include "libreward/curation/wrapped_dataset.h"

namespace meed {
namespace {

int64_t num_words(const std::string& text) {
  int64_t count = 0;
  bool inside = false;
  for (const char c : text) {
    const bool space = c == ' ' || c == '\n';
    count += !space && !inside;
    inside = !space;
  }
  return count;
}

std::vector<std::string> chunks_in(const Example& example, const std::string& column) {
  const auto found = example.extra.find(column);
  const auto json = found == example.extra.end()
                        ? nlohmann::json()
                        : nlohmann::json::parse(found->second, nullptr, false);
  std::vector<std::string> chunks;
  if (json.is_array())
    for (const auto& chunk : json)
      if (chunk.is_string()) chunks.push_back(chunk.get<std::string>());
  if (!json.is_array() || chunks.size() != json.size())
    throw DataError("row " + std::to_string(example.row + 1) + ": short_to_long: column \"" +
                    column + "\": expected a JSON array of texts");
  return chunks;
}

/// LongRM's short-to-long synthesis: a row judged on its critical chunks alone is padded with the
/// chunks that were discarded, up to a target length; its label stays what it was. Rows of length 0
/// keep the short context, so that short data is mixed in.
class ShortToLong final : public ListDataset {
 public:
  struct Config {
    std::optional<ConfigNode> data;
    std::vector<int64_t> lengths = {0, 512, 1024, 2048};
    std::string critical_column = "critical", discarded_column = "discarded",
                question_column = "question";
    int64_t seed = 0;
    void fields(FieldVisitor& v) {
      v.component("data", data, datasets(),
                  "Rows with their context's chunks in two columns and a question.");
      v.required("data");
      v.field("lengths", lengths,
              "Words of a row's context, round and round; 0: the critical chunks alone.");
      v.field("critical_column", critical_column, "Column of the chunks that decide (JSON array).");
      v.field("discarded_column", discarded_column, "Column of the others (JSON array).");
      v.field("question_column", question_column, "Column with what follows the context.");
      v.field("seed", seed, "Seed of the places.");
      v.require(!lengths.empty(), "lengths", "must not be empty");
      for (const int64_t length : lengths)
        v.require(length >= 0, "lengths", "must not be negative");
      v.require(seed >= 0, "seed", "must not be negative");
    }
  };
  ShortToLong(const Config& config, RunContext& context) {
    const auto source = datasets().create(*config.data, context);
    for (int64_t i = 0; i < source->size(); ++i) {
      auto example = source->get(i);
      const auto question = example.extra.find(config.question_column);
      if (question == example.extra.end())
        throw DataError("row " + std::to_string(i + 1) + ": short_to_long: column \"" +
                        config.question_column + "\" is missing");
      const int64_t length = config.lengths[static_cast<size_t>(i) % config.lengths.size()];
      RandomStream random(mix_seed({static_cast<uint64_t>(config.seed), static_cast<uint64_t>(i)}));
      const auto padded = pad_context(chunks_in(example, config.critical_column),
                                      chunks_in(example, config.discarded_column), length, random);
      example.prompt = {};
      example.prompt.text = padded.text + question->second;
      example.extra["length"] = std::to_string(length);
      rows_.push_back(std::move(example));
    }
  }
};

MEED_REGISTER(datasets, "short_to_long", ShortToLong,
              "Rows whose short context is padded to given lengths.");

}  // namespace

PaddedContext pad_context(std::span<const std::string> critical,
                          std::span<const std::string> discarded, int64_t length,
                          RandomStream& random) {
  int64_t words = 0;
  for (const auto& chunk : critical) words += num_words(chunk);
  size_t used = 0;
  while (used < discarded.size() && words < length) words += num_words(discarded[used++]);
  const auto total = static_cast<int64_t>(critical.size() + used);
  // Places of the critical chunks: a random subset, in order.
  PaddedContext padded{.num_sentences = total};
  auto left = static_cast<int64_t>(critical.size());
  size_t next_critical = 0, next_other = 0;
  for (int64_t place = 0; place < total; ++place) {
    const bool take =
        left > 0 && random.next() * static_cast<double>(total - place) < static_cast<double>(left);
    if (take) padded.places.push_back(place);
    left -= take;
    padded.text +=
        (place > 0 ? " " : "") + (take ? critical[next_critical++] : discarded[next_other++]);
  }
  return padded;
}

}  // namespace meed
