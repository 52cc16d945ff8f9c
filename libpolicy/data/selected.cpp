#include <algorithm>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "libpolicy/core/error.h"
#include "libpolicy/core/random.h"
#include "libpolicy/data/hands_rows_on.h"

namespace meed {
namespace {

/// Rows of a dataset by how well a model did on them: the hardest are those whose completions an
/// earlier run scored lowest (BLEUBERI's selection). The scores are a completions.jsonl, matched by
/// prompt; several completions of a prompt count by their mean.
class Selected final : public Dataset, public HandsRowsOn {
 public:
  struct Config {
    std::optional<ConfigNode> dataset;
    std::string completions;
    std::string phase = "before";
    std::string take = "lowest";
    double share = 0.2;
    int64_t seed = 0;
    void fields(FieldVisitor& v) {
      v.component("dataset", dataset, datasets(), "What rows are chosen from.");
      v.required("dataset");
      v.field("completions", completions, "A run's completions.jsonl.");
      v.required("completions");
      v.choice("phase", phase, {"before", "eval", "after", "train"},
               "Which of its completions count.");
      v.choice("take", take, {"lowest", "highest", "middle", "random"},
               "Which rows by their reward.");
      v.field("share", share, "Share of the rows.");
      v.field("seed", seed, "Decides what random takes.");
      v.require(share > 0 && share <= 1, "share", "must be in (0, 1]");
      v.require(seed >= 0, "seed", "must not be negative");
    }
  };

  Selected(const Config& config, RunContext& context)
      : source_(datasets().create(*config.dataset, context)) {
    const auto rewards = read_rewards(config);
    std::vector<std::pair<double, int64_t>> scored;
    for (int64_t row = 0; row < source_->size(); ++row) {
      const auto found = rewards.find(as_text(source_->get(row).prompt, "\n\n"));
      if (found == rewards.end()) continue;
      const double key = config.take == "random" ? uniform(static_cast<uint64_t>(config.seed),
                                                           static_cast<uint64_t>(row))
                                                 : found->second;
      scored.emplace_back(config.take == "highest" ? -key : key, row);
    }
    if (scored.empty())
      throw DataError(config.completions + ": no completion of phase \"" + config.phase +
                      "\" belongs to a prompt of the dataset");
    std::sort(scored.begin(), scored.end());
    const auto count = std::max<size_t>(
        1, static_cast<size_t>(config.share * static_cast<double>(scored.size()) + 0.5));
    const size_t first = config.take == "middle" ? (scored.size() - count) / 2 : 0;
    for (size_t i = first; i < first + count; ++i) rows_.push_back(scored[i].second);
    std::sort(rows_.begin(), rows_.end());
  }

  int64_t size() const override { return static_cast<int64_t>(rows_.size()); }
  Example get(int64_t index) const override {
    auto example = source_->get(rows_.at(static_cast<size_t>(index)));
    example.row = index;
    return example;
  }
  std::vector<const Dataset*> sources() const override { return {source_.get()}; }

 private:
  static std::map<std::string, double> read_rewards(const Config& config) {
    std::ifstream file(config.completions);
    if (!file) throw DataError(config.completions + ": cannot be read");
    std::map<std::string, std::pair<double, double>> sums;
    int64_t number = 0;
    for (std::string line; std::getline(file, line);) {
      ++number;
      const auto json = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
      if (!json.is_object() || !json.contains("prompt") || !json["prompt"].is_string())
        throw DataError(config.completions + ":" + std::to_string(number) +
                        ": expected an object with a \"prompt\"");
      if (json.value("phase", "") != config.phase || !json["reward"].is_number()) continue;
      auto& [sum, count] = sums[json["prompt"].get<std::string>()];
      sum += json["reward"].get<double>();
      count += 1.0;
    }
    std::map<std::string, double> means;
    for (const auto& [prompt, pair] : sums) means[prompt] = pair.first / pair.second;
    return means;
  }

  std::unique_ptr<Dataset> source_;
  std::vector<int64_t> rows_;
};

MEED_REGISTER(datasets, "selected", Selected,
              "Rows by an earlier run's rewards: the hardest fifth.");

}  // namespace
}  // namespace meed
