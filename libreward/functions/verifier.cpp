#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "libpolicy/core/error.h"
#include "libpolicy/text/chat_template.h"
#include "libpolicy/text/tokenizer.h"
#include "libreward/functions/columns.h"
#include "libreward/models/reward_model.h"
#include "libreward/reference_prompt.h"
#include "libreward/reward_function.h"
#include "libreward/trainable_reward.h"

namespace meed {
namespace {

/// VerifyRM of Cooper: a reward model that reads question, reference answer and completion, R =
/// sigmoid(logit) in [0, 1]. Part: logit.
class Verifier final : public RewardFunction, public TrainableReward {
 public:
  struct Config {
    std::string path;
    std::string reference_column = "answer";
    std::string pattern = "{prompt}Reference answer: {reference}\n";
    bool trainable = false;
    int64_t max_length = 1024;
    int64_t max_tokens_per_micro_batch = 4096;
    void fields(FieldVisitor& v) {
      v.field("path", path, "Folder of a reward model with one output.");
      v.required("path");
      v.field("reference_column", reference_column, "Column with the reference answer.");
      v.field("template", pattern,
              "What stands before the completion; {prompt} (of a conversation its last message), "
              "{reference} and {final_answer} (what the reference, a worked solution, ends in) are "
              "filled in. The rows that the model learnt from had the same.");
      v.field("trainable", trainable, "Let an algorithm (cooper) train it while it serves.");
      v.field("max_length", max_length, "Longer texts lose the start of their prompt.");
      v.field("max_tokens_per_micro_batch", max_tokens_per_micro_batch,
              "Tokens of one forward pass.");
      v.require(pattern.find("{prompt}") != std::string::npos, "template", "must hold {prompt}");
      v.require(max_length > 1, "max_length", "must be at least 2");
      v.require(max_tokens_per_micro_batch > 0, "max_tokens_per_micro_batch", "must be positive");
    }
  };
  explicit Verifier(const Config& config)
      : config_(config),
        tokenizer_(Tokenizer::load(config.path)),
        model_(RewardModel::load(config.path, {.trainable = config.trainable})) {}

  std::vector<std::vector<Score>> score(std::span<const RolloutGroup> groups) override {
    at::NoGradGuard no_grad;
    std::vector<std::vector<Score>> scores;
    std::vector<Text> texts;
    std::vector<Score*> places;
    for (const auto& group : groups) scores.emplace_back(group.completions.size());
    for (size_t p = 0; p < groups.size(); ++p)
      for (size_t g = 0; g < groups[p].completions.size(); ++g) {
        texts.push_back({&groups[p].example, groups[p].completions[g].text});
        places.push_back(&scores[p][g]);
      }
    const auto logits_B = logits(texts);
    for (size_t b = 0; b < places.size(); ++b) {
      const auto logit = logits_B[static_cast<int64_t>(b)];
      places[b]->value = logit.sigmoid().item<double>();
      places[b]->parts["logit"] = logit.item<double>();
    }
    return scores;
  }

  std::vector<std::pair<std::string, at::Tensor>> trainable_parameters() override {
    if (!config_.trainable)
      throw ConfigError("rewards: the verifier must have `trainable: true` to be trained");
    return model_->parameters().trainable();
  }

  at::Tensor logits(std::span<const Text> texts) override {
    std::vector<at::Tensor> parts{at::empty({0})};
    std::vector<RewardText> pending;
    int64_t tokens = 0;
    const auto flush = [&] {
      if (pending.empty()) return;
      parts.push_back(
          model_->forward(std::span<const RewardText>(pending)).rewards_B.to(at::kFloat));
      pending.clear();
      tokens = 0;
    };
    for (const auto& text : texts) {
      pending.push_back(encode(text));
      tokens += static_cast<int64_t>(pending.back().prompt_ids.size() +
                                     pending.back().completion_ids.size());
      if (tokens >= config_.max_tokens_per_micro_batch) flush();
    }
    flush();
    return at::cat(parts);
  }

  void sync_weights() override { model_->sync_compute_weights(); }

  void save_model(const std::filesystem::path& folder) const override {
    std::filesystem::create_directories(folder);
    model_->save(folder, tokenizer_.get(), at::kFloat);
  }

  void load_model(const std::filesystem::path& folder) override {
    at::NoGradGuard no_grad;
    const auto saved = RewardModel::load(folder, {.trainable = true});
    model_->parameters().copy_from(saved->parameters());
    model_->sync_compute_weights();
  }

 private:
  RewardText encode(const Text& text) const {
    const auto& reference = column(*text.example, config_.reference_column, "verifier");
    const auto prompt = with_reference(text.example->prompt, config_.pattern, reference);
    Content completion;
    completion.conversational = prompt.conversational;
    if (prompt.conversational)
      completion.messages = {{"assistant", text.completion, ""}};
    else
      completion.text = text.completion;
    auto pair = encode_pair(*tokenizer_, prompt, completion);
    truncate_start(pair, config_.max_length);
    return {.prompt_ids = std::move(pair.prompt_ids),
            .completion_ids = std::move(pair.completion_ids),
            .step_ends = {}};
  }

  Config config_;
  std::unique_ptr<Tokenizer> tokenizer_;
  std::unique_ptr<RewardModel> model_;
};

MEED_REGISTER(reward_functions, "verifier", Verifier,
              "A reward model that compares a completion with the reference answer (VerifyRM).");

}  // namespace
}  // namespace meed
