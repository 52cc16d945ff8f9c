#include "libreward/models/fused_scorer.h"

#include <ATen/ATen.h>

#include "libpolicy/core/error.h"
#include "libpolicy/data/dataset.h"
#include "libreward/curation/text_encoder.h"
#include "libreward/functions/ensemble.h"

namespace meed {
namespace {

std::string whole_text(const TextScorer::Text& text) {
  return as_text(text.example->prompt, "\n") + " " + as_text(text.completion, "\n");
}

class FusedScorer final : public TextScorer {
 public:
  FusedScorer(std::unique_ptr<TextScorer> inner, const std::vector<Text>& known,
              const FusionSection& options)
      : inner_(std::move(inner)),
        options_(options),
        encoder_(TextEncoder::create(options.encoder)) {
    known_ND_ = embed(known);
    for (const auto& score : inner_->score(known)) rewards_.push_back(score.value);
  }

  std::vector<Score> score(std::span<const Text> texts) override {
    auto scores = inner_->score(texts);
    if (texts.empty()) return scores;
    const auto similarity_TN = at::matmul(embed(texts), known_ND_.t()).to(at::kDouble);
    const auto k = std::min<int64_t>(options_.max_neighbours, known_ND_.size(0));
    const auto [top_TK, index_TK] = similarity_TN.topk(k, /*dim=*/1);
    for (size_t t = 0; t < texts.size(); ++t) {
      std::vector<double> similarities, rewards;
      double near = 0.0;
      for (int64_t i = 0; i < k; ++i) {
        similarities.push_back(top_TK[static_cast<int64_t>(t)][i].item<double>());
        rewards.push_back(
            rewards_[static_cast<size_t>(index_TK[static_cast<int64_t>(t)][i].item<int64_t>())]);
        near += similarities.back() >= options_.least_similarity;
      }
      scores[t].parts["own_reward"] = scores[t].value;
      scores[t].parts["neighbours"] = near;
      scores[t].value =
          fused_reward(scores[t].value, similarities, rewards, options_.least_similarity,
                       static_cast<size_t>(options_.max_neighbours));
    }
    return scores;
  }

 private:
  at::Tensor embed(std::span<const Text> texts) {
    std::vector<std::string> whole;
    for (const auto& text : texts) whole.push_back(whole_text(text));
    return encoder_->embed(whole);
  }

  std::unique_ptr<TextScorer> inner_;
  FusionSection options_;
  std::unique_ptr<TextEncoder> encoder_;
  at::Tensor known_ND_;
  std::vector<double> rewards_;
};

}  // namespace

void FusionSection::fields(FieldVisitor& v) {
  v.component("data", data, datasets(), "Rows whose texts are looked up; null: no fusion.");
  v.field("encoder", encoder, "hashed_ngrams, or the folder of a sentence encoder.");
  v.field("max_neighbours", max_neighbours, "Most similar texts that count.");
  v.field("least_similarity", least_similarity,
          "Cosine similarity that a text must have to count.");
  v.require(max_neighbours > 0, "max_neighbours", "must be positive");
  v.require(least_similarity > 0 && least_similarity <= 1, "least_similarity", "must be in (0, 1]");
}

std::unique_ptr<TextScorer> with_fusion(std::unique_ptr<TextScorer> inner,
                                        const FusionSection& fusion, RunContext& context) {
  if (!fusion.data) return inner;
  const auto data = datasets().create(*fusion.data, context);
  std::vector<Example> examples;
  for (int64_t row = 0; row < data->size(); ++row) examples.push_back(data->get(row));
  std::vector<TextScorer::Text> texts;
  for (const auto& example : examples)
    for (const auto* side : {&example.chosen, &example.rejected, &example.completion})
      if (!side->empty()) texts.push_back({&example, *side});
  if (texts.empty())
    throw DataError("fusion.data: no row has a chosen, rejected or completion to look up");
  return std::make_unique<FusedScorer>(std::move(inner), texts, fusion);
}

}  // namespace meed
