#include "libpolicy/data/generated_task.h"

#include <nlohmann/json.hpp>

#include "libpolicy/core/error.h"

namespace meed {
namespace {

bool belongs_to_eval(const std::string& text, double fraction) {
  uint64_t hash = 0;
  for (const char c : text)
    hash = mix_seed({hash, static_cast<uint64_t>(static_cast<unsigned char>(c))});
  return uniform(hash, 0) < fraction;
}

}  // namespace

void GeneratedRows::fields(FieldVisitor& v) {
  v.field("num_rows", num_rows, "How many rows.");
  v.field("seed", seed, "Decides the rows.");
  v.choice("split", split, {"train", "eval"},
           "Prompts of one split never stand in the other, whatever the seeds.");
  v.field("eval_fraction", eval_fraction, "Share of all prompts that belongs to the eval split.");
  v.require(num_rows > 0, "num_rows", "must be positive");
  v.require(seed >= 0, "seed", "must not be negative");
  v.require(eval_fraction > 0 && eval_fraction < 1, "eval_fraction", "must be in (0, 1)");
}

Example GeneratedTask::get(int64_t index) const {
  auto example = rows_.at(static_cast<size_t>(index));
  example.row = index;
  return example;
}

void GeneratedTask::generate(const GeneratedRows& config, const std::string& task,
                             const std::function<Example(RandomStream&)>& make) {
  constexpr int64_t kMaxTries = 1000;
  const bool eval = config.split == "eval";
  rows_.reserve(static_cast<size_t>(config.num_rows));
  for (int64_t row = 0; row < config.num_rows; ++row) {
    RandomStream random(
        mix_seed({static_cast<uint64_t>(config.seed), eval ? 1u : 0u, static_cast<uint64_t>(row)}));
    for (int64_t tries = 0;; ++tries) {
      if (tries == kMaxTries)
        throw DataError(task + ": no prompt of the " + config.split +
                        " split; choose another eval_fraction");
      auto example = make(random);
      if (belongs_to_eval(as_text(example.prompt, "\n"), config.eval_fraction) != eval) continue;
      rows_.push_back(std::move(example));
      break;
    }
  }
}

Example plain_row(std::string prompt, std::string completion) {
  Example example;
  example.prompt.text = std::move(prompt);
  example.completion.text = std::move(completion);
  return example;
}

std::string joined(const std::vector<std::string>& items, std::string_view between) {
  std::string text;
  for (const auto& item : items) text += (text.empty() ? "" : std::string(between)) + item;
  return text;
}

std::string json_list(const std::vector<std::string>& items) {
  return nlohmann::json(items).dump();
}

}  // namespace meed
