#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#include "libpolicy/core/error.h"
#include "libpolicy/data/dataset.h"
#include "libpolicy/generation/rollout_store.h"

namespace meed {
namespace {

/// Rows made of the rollouts that a run has stored (rollout.store): the best completion of each
/// group (for sft), its best and worst with their rewards' gap as margin (for dpo and its kin), or
/// every completion with a label (for kto). The column "reward" holds the reward.
class Rollouts final : public Dataset {
 public:
  struct Config {
    std::string path;
    std::string form = "pairs";
    double min_reward = -1e30, min_margin = 0.0, label_threshold = 0.5;
    void fields(FieldVisitor& v) {
      v.field("path", path, "Folder of the store.");
      v.required("path");
      v.choice("form", form, {"best", "pairs", "labels"}, "What a row is.");
      v.field("min_reward", min_reward, "best: groups whose best is below this are left out.");
      v.field("min_margin", min_margin,
              "pairs: groups whose best and worst differ by less are left out (FLR: 0.1).");
      v.field("label_threshold", label_threshold, "labels: desirable from this reward on.");
    }
  };
  explicit Rollouts(const Config& config) : config_(config) {
    for (const auto& file : RolloutStore(config.path).files()) add(RolloutStore::read(file));
    if (rows_.empty())
      throw DataError(config.path + ": no group of the stored rollouts gives a row of the form " +
                      config.form);
    for (size_t i = 0; i < rows_.size(); ++i) rows_[i].row = static_cast<int64_t>(i);
  }
  int64_t size() const override { return static_cast<int64_t>(rows_.size()); }
  Example get(int64_t index) const override { return rows_.at(static_cast<size_t>(index)); }

 private:
  void add(const StoredRollouts& stored) {
    for (size_t p = 0; p < stored.groups.size(); ++p) {
      const auto& group = stored.groups[p];
      const auto rewards = stored.rewards_PG[static_cast<int64_t>(p)].contiguous();
      const auto* reward = rewards.const_data_ptr<double>();
      std::vector<size_t> known;
      for (size_t g = 0; g < group.completions.size(); ++g)
        if (std::isfinite(reward[g]) && !group.completions[g].text.empty()) known.push_back(g);
      if (known.empty()) continue;
      if (config_.form == "labels") {
        for (const size_t g : known) {
          auto& row = start(group, reward[g]);
          row.completion = as_content(group, g);
          row.label = reward[g] >= config_.label_threshold;
        }
        continue;
      }
      const auto less = [&](size_t a, size_t b) { return reward[a] < reward[b]; };
      const size_t best = *std::max_element(known.begin(), known.end(), less);
      const size_t worst = *std::min_element(known.begin(), known.end(), less);
      if (config_.form == "best") {
        if (reward[best] < config_.min_reward) continue;
        start(group, reward[best]).completion = as_content(group, best);
        continue;
      }
      if (reward[best] <= reward[worst] || reward[best] - reward[worst] < config_.min_margin ||
          group.completions[best].text == group.completions[worst].text)
        continue;
      auto& row = start(group, reward[best]);
      row.chosen = as_content(group, best);
      row.rejected = as_content(group, worst);
      row.margin = reward[best] - reward[worst];
    }
  }

  Example& start(const RolloutGroup& group, double reward) {
    auto& row = rows_.emplace_back(group.example);
    row.completion = {};
    row.extra["reward"] = std::to_string(reward);
    return row;
  }

  static Content as_content(const RolloutGroup& group, size_t g) {
    Content content;
    content.conversational = group.example.prompt.conversational;
    if (content.conversational)
      content.messages = {{"assistant", group.completions[g].text, ""}};
    else
      content.text = group.completions[g].text;
    return content;
  }

  Config config_;
  std::vector<Example> rows_;
};

MEED_REGISTER(datasets, "rollouts", Rollouts, "Rows made of the rollouts that a run has stored.");

}  // namespace
}  // namespace meed
