#include "libreward/models/fused_scorer.h"
#include "libreward/models/text_scorer.h"
#include "libreward/reward_function.h"

namespace meed {
namespace {

/// A trained reward model of any kind. Its own tokenizer reads prompt and completion, so it need
/// not be the policy's.
class RewardModelFunction final : public RewardFunction {
 public:
  struct Config {
    static constexpr const char* kShapes = "outcome step";
    std::string path;
    std::string dtype = "float32";
    int64_t max_length = 1024;
    int64_t max_tokens_per_micro_batch = 4096;
    FusionSection fusion;
    void fields(FieldVisitor& v) {
      v.field("path", path,
              "Folder of a reward model: what reward_modelling, reward_ensemble or critique_reward "
              "writes, or a ...ForSequenceClassification model.");
      v.required("path");
      v.choice("dtype", dtype, {"float32", "bfloat16"}, "What it computes in.");
      v.field("max_length", max_length, "Longer texts lose the start of their prompt.");
      v.field("max_tokens_per_micro_batch", max_tokens_per_micro_batch,
              "Tokens of one forward pass.");
      v.section("fusion", fusion, "RewardFusion with the most similar texts of a dataset.");
      v.require(max_length > 1, "max_length", "must be at least 2");
      v.require(max_tokens_per_micro_batch > 0, "max_tokens_per_micro_batch", "must be positive");
    }
  };

  RewardModelFunction(const Config& config, RunContext& context)
      : scorer_(with_fusion(
            TextScorer::load(config.path,
                             {.dtype = config.dtype == "bfloat16" ? at::kBFloat16 : at::kFloat,
                              .max_length = config.max_length,
                              .max_tokens_per_micro_batch = config.max_tokens_per_micro_batch,
                              .seed = context.seed}),
            config.fusion, context)) {}

  std::vector<std::vector<Score>> score(std::span<const RolloutGroup> groups) override {
    std::vector<TextScorer::Text> texts;
    for (const auto& group : groups) {
      for (const auto& completion : group.completions) {
        Content content;
        content.conversational = group.example.prompt.conversational;
        if (content.conversational)
          content.messages = {{"assistant", completion.text, ""}};
        else
          content.text = completion.text;
        texts.push_back({&group.example, std::move(content)});
      }
    }
    auto flat = scorer_->score(texts);
    std::vector<std::vector<Score>> scores;
    auto next = flat.begin();
    for (const auto& group : groups) {
      auto& row = scores.emplace_back();
      for (size_t g = 0; g < group.completions.size(); ++g) row.push_back(std::move(*next++));
    }
    return scores;
  }

 private:
  std::unique_ptr<TextScorer> scorer_;
};

MEED_REGISTER(reward_functions, "reward_model", RewardModelFunction,
              "A trained reward model, or an ensemble of them.");

}  // namespace
}  // namespace meed
