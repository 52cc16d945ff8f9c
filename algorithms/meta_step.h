#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <optional>
#include <vector>

#include "libpolicy/core/config.h"
#include "libpolicy/core/run_context.h"
#include "libpolicy/data/dataset.h"
#include "libreward/models/feature_heads.h"

namespace meed {

/// MetaRM (Secrets of RLHF II): before a step the weights climb the difference of rewards over
/// unlabelled responses of the current policy, theta' = theta + eta grad J(theta); the loss's
/// gradient is taken at theta' and applied at theta.
class MetaStep {
 public:
  struct Config {
    std::optional<ConfigNode> data;
    double learning_rate = 0.1;
    int64_t batch_size = 16;
    void fields(FieldVisitor& v);
  };
  /// `config.data` names rows with candidate_features. Throws ConfigError, DataError.
  MetaStep(const Config& config, RunContext& context, FeatureHeads& heads);

  /// To theta'. Every rank climbs the same rows, so no collective is needed. Returns J at theta.
  double climb(int64_t step);
  /// Back to theta, with the gradients that were taken at theta'.
  void restore();

 private:
  Config config_;
  FeatureHeads& heads_;
  std::unique_ptr<Dataset> data_;
  Sampler sampler_;
  std::vector<at::Tensor> weights_, saved_;
};

}  // namespace meed
