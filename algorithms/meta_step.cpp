#include "algorithms/meta_step.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "algorithms/head_batch.h"
#include "libpolicy/core/error.h"
#include "libreward/losses/contrastive.h"

namespace meed {

void MetaStep::Config::fields(FieldVisitor& v) {
  v.component("data", data, datasets(),
              "Rows with candidate_features: unlabelled responses of the current policy; null: no "
              "meta step.");
  v.field("learning_rate", learning_rate, "Step that climbs the difference of their rewards.");
  v.field("batch_size", batch_size, "Prompts of a meta step.");
  v.require(learning_rate >= 0, "learning_rate", "must not be negative");
  v.require(batch_size > 0, "batch_size", "must be positive");
}

MetaStep::MetaStep(const Config& config, RunContext& context, FeatureHeads& heads)
    : config_(config),
      heads_(heads),
      data_(datasets().create(*config.data, context)),
      sampler_(data_->size(), context.seed) {
  for (const auto& [name, tensor] : heads.parameters().trainable()) weights_.push_back(tensor);
}

double MetaStep::climb(int64_t step) {
  MEED_CHECK(saved_.empty(), "one meta step before each update");
  sampler_.seek(step * config_.batch_size);
  auto objective = at::zeros({});
  const auto rows = sampler_.next(config_.batch_size);
  for (const int64_t row : rows) {
    const auto example = read_vectors(data_->get(row));
    const auto input = candidate_input(*example, heads_.num_features());
    if (input.features_BD.size(0) < 2)
      throw DataError("meta.data: row " + std::to_string(row + 1) + ": fewer than two responses");
    for (int64_t m = 0; m < heads_.size(); ++m)
      objective =
          objective + meta_difference(heads_.member(m).forward(input).rewards_B.unsqueeze(0));
  }
  objective = objective / static_cast<double>(rows.size());
  objective.backward();
  const at::NoGradGuard no_grad;
  for (auto& weight : weights_) {
    saved_.push_back(weight.detach().clone());
    if (!weight.grad().defined()) continue;
    weight.add_(weight.grad(), config_.learning_rate);
    weight.mutable_grad().zero_();
  }
  return objective.item<double>();
}

void MetaStep::restore() {
  const at::NoGradGuard no_grad;
  for (size_t i = 0; i < saved_.size(); ++i) weights_[i].copy_(saved_[i]);
  saved_.clear();
}

}  // namespace meed
