#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "libpolicy/core/error.h"
#include "libreward/models/feature_backbone.h"
#include "libreward/models/feature_heads.h"
#include "libreward/reward_function.h"

namespace meed {
namespace {

/// A head, or an ensemble of heads, that the algorithm reward_head trained on a backbone's hidden
/// states. The backbone reads a text once, whatever the number of members.
class RewardHeadFunction final : public RewardFunction {
 public:
  struct Config {
    std::string path, model;
    bool center_per_prompt = false;
    int64_t max_tokens_per_micro_batch = 4096;
    void fields(FieldVisitor& v) {
      v.field("path", path, "Folder of a head or an ensemble: final/ of a run of reward_head.");
      v.required("path");
      v.field("model", model, "Backbone; empty: the one that the heads were trained on.");
      v.field("center_per_prompt", center_per_prompt,
              "First take each member's mean over a prompt's completions off its rewards.");
      v.field("max_tokens_per_micro_batch", max_tokens_per_micro_batch,
              "Tokens of one forward pass.");
      v.require(max_tokens_per_micro_batch > 0, "max_tokens_per_micro_batch", "must be positive");
    }
  };

  explicit RewardHeadFunction(const Config& config)
      : config_(config), heads_(FeatureHeads::load(config.path)) {
    auto source = heads_->source;
    if (!config.model.empty()) source.model = config.model;
    if (source.model.empty())
      throw ConfigError("reward_head: " + config.path +
                        " was trained on vectors of no known backbone; it cannot read texts");
    backbone_ = std::make_unique<FeatureBackbone>(source, config.max_tokens_per_micro_batch);
    if (backbone_->size() != heads_->num_features())
      throw ConfigError("reward_head: " + source.model + " gives vectors of " +
                        std::to_string(backbone_->size()) + " numbers, the heads in " +
                        config.path + " take " + std::to_string(heads_->num_features()));
  }

  std::vector<std::vector<Score>> score(std::span<const RolloutGroup> groups) override {
    const at::NoGradGuard no_grad;
    std::vector<std::vector<Score>> scores;
    for (const auto& group : groups) scores.push_back(score_group(group));
    return scores;
  }

 private:
  std::vector<Score> score_group(const RolloutGroup& group) {
    std::vector<EncodedPair> texts;
    for (const auto& completion : group.completions) {
      Content content;
      content.conversational = group.example.prompt.conversational;
      if (content.conversational)
        content.messages = {{"assistant", completion.text, ""}};
      else
        content.text = completion.text;
      texts.push_back(backbone_->encode(group.example.prompt, content));
    }
    auto rewards_MG = heads_->member_rewards(backbone_->embed(texts));
    if (config_.center_per_prompt)
      rewards_MG = rewards_MG - rewards_MG.mean(/*dim=*/1, /*keepdim=*/true);
    const auto rewards_G = heads_->aggregated(rewards_MG);
    const auto spread_G = rewards_MG.to(at::kDouble).std(/*dim=*/0, /*unbiased=*/false);
    std::vector<Score> scores(texts.size());
    for (size_t g = 0; g < scores.size(); ++g) {
      const auto place = static_cast<int64_t>(g);
      scores[g].value = rewards_G[place].item<double>();
      if (heads_->size() > 1) scores[g].parts["disagreement"] = spread_G[place].item<double>();
    }
    return scores;
  }

  Config config_;
  std::unique_ptr<FeatureHeads> heads_;
  std::unique_ptr<FeatureBackbone> backbone_;
};

MEED_REGISTER(reward_functions, "reward_head", RewardHeadFunction,
              "A head or an ensemble of heads on a frozen backbone.");

}  // namespace
}  // namespace meed
