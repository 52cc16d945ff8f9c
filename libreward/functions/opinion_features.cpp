#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "libpolicy/core/error.h"
#include "libreward/data/opinion_features.h"
#include "libreward/functions/columns.h"
#include "libreward/models/feature_heads.h"
#include "libreward/reward_function.h"

namespace meed {
namespace {

/// The features that a domain's experts look at, as the reward of a summary (Domain knowledge for
/// reward modelling in e-commerce opinion summarisation): a small net on the seven numbers of
/// opinion_features, trained by reward_head on the pairs of opinion_summaries. An empty summary has
/// the worst of every feature.
class OpinionFeaturesReward final : public RewardFunction {
 public:
  struct Config {
    std::string path;
    std::string reviews_column = "reviews";
    void fields(FieldVisitor& v) {
      v.field("path", path,
              "Folder of a head on the seven features: final/ of a run of reward_head on "
              "opinion_summaries.");
      v.required("path");
      v.field("reviews_column", reviews_column, "Column with the reviews, a list of texts.");
    }
  };
  explicit OpinionFeaturesReward(const Config& config)
      : config_(config), heads_(FeatureHeads::load(config.path)) {
    const auto wanted = static_cast<int64_t>(OpinionFeatures{}.values().size());
    if (heads_->num_features() != wanted || heads_->num_context() != 0)
      throw ConfigError("opinion_features: the heads in " + config.path + " take " +
                        std::to_string(heads_->num_features()) + " numbers of a text and " +
                        std::to_string(heads_->num_context()) +
                        " of its prompt, the features are " + std::to_string(wanted) +
                        " and none; train them on {type: opinion_summaries}");
  }

  std::vector<std::vector<Score>> score(std::span<const RolloutGroup> groups) override {
    const at::NoGradGuard no_grad;
    std::vector<std::vector<Score>> scores;
    std::vector<float> features;
    for (const auto& group : groups) {
      const auto reviews =
          texts_of(column(group.example, config_.reviews_column, "opinion_features"));
      auto& row = scores.emplace_back();
      for (const auto& completion : group.completions) {
        row.push_back(scored(reviews, completion.text));
        for (const char* name : kNames)
          features.push_back(static_cast<float>(row.back().parts.at(name)));
      }
    }
    if (features.empty()) return scores;
    const auto rewards_B = heads_
                               ->rewards({.features_BD = at::tensor(features).view(
                                              {-1, static_cast<int64_t>(std::size(kNames))})})
                               .to(at::kDouble);
    int64_t next = 0;
    for (auto& row : scores)
      for (auto& score : row) score.value = rewards_B[next++].item<double>();
    return scores;
  }

 private:
  static constexpr const char* kNames[] = {
      "aspect_coverage", "opinion_faithfulness", "opinion_coverage",    "conciseness",
      "relevance",       "hallucination",        "language_correctness"};

  static Score scored(const std::vector<std::string>& reviews, const std::string& text) {
    auto values = opinion_features(reviews, text).values();
    Score score;
    if (is_blank(text)) {
      values = OpinionFeatures{.hallucination = 1.0}.values();
      score.unreadable = "empty";
    }
    for (size_t k = 0; k < values.size(); ++k) score.parts[kNames[k]] = values[k];
    return score;
  }

  Config config_;
  std::unique_ptr<FeatureHeads> heads_;
};

MEED_REGISTER(reward_functions, "opinion_features", OpinionFeaturesReward,
              "A net on seven features of an opinion summary.");

}  // namespace
}  // namespace meed
