#include "libreward/models/sequence_classifier.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "libpolicy/checkpoint/model_files.h"
#include "libpolicy/core/error.h"
#include "libpolicy/models/save_model.h"
#include "libreward/models/reward_head.h"

namespace meed {

std::unique_ptr<SequenceClassifier> SequenceClassifier::load(const std::filesystem::path& path, const LoadOptions& options, int64_t num_labels, uint64_t seed) {
  const auto files = ModelFiles::open(path);
  auto model = std::make_unique<SequenceClassifier>();
  model->backbone_ = CausalLm::load(*files, options);
  model->num_labels_ = num_labels;
  const int64_t hidden = model->backbone_->config().hidden_size;
  if (files->has("score.weight")) {
    model->score_ = files->load("score.weight", at::kFloat);
    if (model->score_.dim() != 2 || model->score_.size(0) != num_labels || model->score_.size(1) != hidden)
      throw DataError(files->where() + "score.weight: expected [" + std::to_string(num_labels) + ", " + std::to_string(hidden) + "], the file has " + c10::str(model->score_.sizes()));
  } else if (options.trainable) {
    model->score_ = random_weights({num_labels, hidden}, kHeadStd, seed);
  } else {
    throw DataError(files->where() + "has no score.weight: not a reward model; train one with algorithm.type: reward_modelling");
  }
  model->score_.set_requires_grad(options.trainable);
  // A classifier has no language-model head; a tied one is the embedding itself.
  for (const auto& [name, tensor] : model->backbone_->parameters().items())
    if (name != "lm_head.weight") model->parameters_.add(name, tensor);
  model->parameters_.add("score.weight", model->score_);
  return model;
}

at::Tensor SequenceClassifier::forward(const PackedBatch& batch, const at::Tensor& last_B) {
  const auto hidden_ND = backbone_->hidden_states(batch);
  return at::linear(head_input(hidden_ND.index_select(0, last_B.to(hidden_ND.device()))), score_);
}

void SequenceClassifier::save(const std::filesystem::path& folder, const Tokenizer* tokenizer, at::ScalarType dtype) const {
  save_classifier(folder, backbone_->config(), num_labels_, parameters_, tokenizer, dtype);
}

void save_classifier(const std::filesystem::path& folder, ModelConfig config, int64_t num_labels, const ParameterStore& parameters, const Tokenizer* tokenizer, at::ScalarType dtype) {
  config.num_labels = num_labels;
  // transformers finds the last token of a padded row by its padding token.
  if (!config.pad_token_id && !config.eos_token_ids.empty()) config.pad_token_id = config.eos_token_ids[0];
  save_parameters(folder, config, parameters, tokenizer, dtype);
}

}  // namespace meed
