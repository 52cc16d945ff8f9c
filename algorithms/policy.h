#pragma once

#include <ATen/core/Tensor.h>

#include <memory>

#include "algorithms/learner.h"
#include "algorithms/offline_trainer.h"
#include "algorithms/recipe.h"
#include "libpolicy/models/causal_lm.h"
#include "libpolicy/models/save_model.h"

namespace meed {

class TrainingRun;

/// The model that is trained and the reference it started from. With an adapter the reference is
/// the model without it; otherwise a second copy of the weights, loaded when first asked for.
class Policy {
 public:
  Policy(const Recipe& recipe, uint64_t seed);
  CausalLm& model() { return *model_; }
  /// What the Learner trains: all weights, or the adapter. With `moving_reference` checkpoints hold
  /// the reference too; throws ConfigError with an adapter, whose reference has no weights of its
  /// own.
  TrainableModel trainable(const TrainingRun& run, bool moving_reference = false);
  /// Runs `work` with the reference's weights, without gradients.
  at::Tensor with_reference(const std::function<at::Tensor(CausalLm&)>& work);
  /// reference = alpha policy + (1 - alpha) reference; needs a moving reference.
  void sync_reference(double alpha);
  /// Frees the reference's weights; the next with_reference() loads them again.
  void release_reference();

 private:
  CausalLm& reference();
  ModelSection config_;
  LoraSection lora_;
  AdapterConfig adapter_;
  std::unique_ptr<CausalLm> model_, reference_;
  bool moving_reference_ = false;
};

/// Compute dtype of a recipe's model.dtype.
at::ScalarType parse_dtype(const std::string& name);

/// How a recipe's models are loaded: its dtype and device.
LoadOptions load_options(const ModelSection& section, bool trainable);

/// Copies what save_exact wrote back into the parameters.
void load_parameters(const std::filesystem::path& folder, ParameterStore& parameters);

/// Cuts a row to `max_length` tokens; true if something was cut. The prompt loses its start before
/// a completion loses anything, unless `keep_start`.
bool truncate(EncodedRow& row, int64_t max_length, bool keep_start);

}  // namespace meed
