#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "libpolicy/core/error.h"
#include "libpolicy/text/chat_template.h"
#include "libpolicy/text/tokenizer.h"
#include "libreward/models/sequence_classifier.h"
#include "libreward/reward_function.h"

namespace meed {
namespace {

/// A trained scalar reward model. Its own tokenizer reads prompt and completion, so it need not be
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
              "Folder of a ...ForSequenceClassification model, as reward_modelling writes it.");
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
        model_(SequenceClassifier::load(
            config.path, {.dtype = config.dtype == "bfloat16" ? at::kBFloat16 : at::kFloat},
            /*num_labels=*/1, /*seed=*/0)) {}

  std::vector<std::vector<Score>> score(std::span<const RolloutGroup> groups) override {
    at::NoGradGuard no_grad;
    std::vector<std::vector<Score>> scores;
    for (const auto& group : groups) scores.emplace_back(group.completions.size());
    for (size_t p = 0; p < groups.size(); ++p) {
      for (size_t g = 0; g < groups[p].completions.size(); ++g) {
        add(groups[p].example, groups[p].completions[g]);
        pending_.push_back(&scores[p][g]);
        if (builder_.num_tokens() >= config_.max_tokens_per_micro_batch) flush();
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
    auto ids = std::move(pair.prompt_ids);
    ids.insert(ids.end(), pair.completion_ids.begin(), pair.completion_ids.end());
    if (static_cast<int64_t>(ids.size()) > config_.max_length)
      ids.erase(ids.begin(), ids.end() - config_.max_length);
    builder_.add(ids);
    last_.push_back(builder_.num_tokens() - 1);
  }

  void flush() {
    if (pending_.empty()) return;
    const auto values = model_->forward(builder_.build(), at::tensor(last_, at::kLong));
    for (size_t i = 0; i < pending_.size(); ++i)
      pending_[i]->value = values[static_cast<int64_t>(i)][0].item<double>();
    builder_ = PackedBatchBuilder();
    pending_.clear();
    last_.clear();
  }

  Config config_;
  std::unique_ptr<Tokenizer> tokenizer_;
  std::unique_ptr<SequenceClassifier> model_;
  PackedBatchBuilder builder_;
  std::vector<int64_t> last_;
  std::vector<Score*> pending_;
};

MEED_REGISTER(reward_functions, "reward_model", RewardModelFunction,
              "A trained scalar reward model.");

}  // namespace
}  // namespace meed
