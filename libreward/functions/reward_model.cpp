#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "libpolicy/core/error.h"
#include "libpolicy/text/chat_template.h"
#include "libpolicy/text/tokenizer.h"
#include "libreward/models/reward_model.h"
#include "libreward/reward_function.h"

namespace meed {
namespace {

/// A trained reward model of any head. Its own tokenizer reads prompt and completion, so it need not be
/// the policy's.
class RewardModelFunction final : public RewardFunction {
 public:
  struct Config {
    std::string path;
    std::string dtype = "float32";
    int64_t max_length = 1024;
    int64_t max_tokens_per_micro_batch = 4096;
    void fields(FieldVisitor& v) {
      v.field("path", path,
              "Folder of a reward model: what reward_modelling writes, or a ...ForSequenceClassification "
              "model.");
      v.required("path");
      v.choice("dtype", dtype, {"float32", "bfloat16"}, "What it computes in.");
      v.field("max_length", max_length, "Longer texts lose the start of their prompt.");
      v.field("max_tokens_per_micro_batch", max_tokens_per_micro_batch,
              "Tokens of one forward pass.");
      v.require(max_length > 1, "max_length", "must be at least 2");
      v.require(max_tokens_per_micro_batch > 0, "max_tokens_per_micro_batch", "must be positive");
    }
  };

  explicit RewardModelFunction(const Config& config)
      : config_(config),
        tokenizer_(Tokenizer::load(config.path)),
        model_(RewardModel::load(
            config.path, {.dtype = config.dtype == "bfloat16" ? at::kBFloat16 : at::kFloat})) {}

  std::vector<std::vector<Score>> score(std::span<const RolloutGroup> groups) override {
    at::NoGradGuard no_grad;
    std::vector<std::vector<Score>> scores;
    for (const auto& group : groups) scores.emplace_back(group.completions.size());
    for (size_t p = 0; p < groups.size(); ++p) {
      for (size_t g = 0; g < groups[p].completions.size(); ++g) {
        add(groups[p].example, groups[p].completions[g]);
        pending_.push_back(&scores[p][g]);
        if (num_tokens_ >= config_.max_tokens_per_micro_batch) flush();
      }
    }
    flush();
    return scores;
  }

 private:
  void add(const Example& example, const Completion& completion) {
    Content content;
    content.conversational = example.prompt.conversational;
    if (content.conversational)
      content.messages = {{"assistant", completion.text, ""}};
    else
      content.text = completion.text;
    auto pair = encode_pair(*tokenizer_, example.prompt, content);
    truncate_start(pair, config_.max_length);
    num_tokens_ += static_cast<int64_t>(pair.prompt_ids.size() + pair.completion_ids.size());
    texts_.push_back(std::move(pair));
  }

  void flush() {
    if (pending_.empty()) return;
    std::vector<RewardModel::Row> rows;
    for (const auto& [prompt, text] : texts_) rows.push_back({prompt, {text}});
    const auto rewards = model_->forward(rows).rewards_B;
    for (size_t i = 0; i < pending_.size(); ++i)
      pending_[i]->value = rewards[static_cast<int64_t>(i)].item<double>();
    pending_.clear();
    texts_.clear();
    num_tokens_ = 0;
  }

  Config config_;
  std::unique_ptr<Tokenizer> tokenizer_;
  std::unique_ptr<RewardModel> model_;
  std::vector<EncodedPair> texts_;
  int64_t num_tokens_ = 0;
  std::vector<Score*> pending_;
};

MEED_REGISTER(reward_functions, "reward_model", RewardModelFunction,
              "A trained reward model.");

}  // namespace
}  // namespace meed
