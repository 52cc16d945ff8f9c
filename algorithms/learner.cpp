#include "algorithms/learner.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <cmath>

#include "libpolicy/core/error.h"
#include "libpolicy/core/log.h"
#include "libpolicy/core/metrics.h"
#include "libpolicy/distributed/communicator.h"
#include "libpolicy/distributed/gradient_reducer.h"
#include "libpolicy/optim/adamw.h"
#include "libpolicy/optim/clip_grad_norm.h"
#include "libpolicy/optim/lr_schedule.h"

namespace meed {
namespace {

std::vector<at::Tensor> tensors_of(const TrainableModel& model) {
  std::vector<at::Tensor> tensors;
  for (const auto& [name, tensor] : model.parameters) tensors.push_back(tensor);
  return tensors;
}

}  // namespace

Learner::Learner(TrainableModel model, const OptimSection& config, const std::string& on_nan,
                 int64_t total_steps, Communicator& comm, MetricsWriter& metrics)
    : model_(std::move(model)),
      config_(config),
      skip_nan_(on_nan == "skip"),
      comm_(comm),
      metrics_(metrics),
      optimizer_(std::make_unique<AdamW>(model_.parameters,
                                         AdamWOptions{.beta1 = config.adam_beta1,
                                                      .beta2 = config.adam_beta2,
                                                      .epsilon = config.adam_epsilon,
                                                      .weight_decay = config.weight_decay})),
      schedule_(std::make_unique<LrSchedule>(config.lr_scheduler_type, config.learning_rate,
                                             config.warmup_steps, total_steps)),
      reducer_(std::make_unique<GradientReducer>(comm, tensors_of(model_))) {}

Learner::~Learner() = default;

void Learner::accumulate(const LossOutput& output) {
  loss_sum_ += output.loss.item<double>();
  if (output.loss.requires_grad()) output.loss.backward();
  record_metrics(metrics_, output.metrics);
}

void Learner::update() {
  at::Tensor loss = at::full({1}, loss_sum_, at::kDouble);
  comm_.all_reduce(loss, ReduceOp::kSum);
  loss_sum_ = 0.0;
  reducer_->reduce();
  const auto tensors = tensors_of(model_);
  const double norm = clip_grad_norm(tensors, config_.max_grad_norm);
  const double learning_rate = schedule_->at(step_);
  const double loss_value = loss.item<double>();
  metrics_.record("loss", loss_value);
  metrics_.record("grad_norm", norm);
  metrics_.record("learning_rate", learning_rate);
  const bool finite = std::isfinite(loss_value) && std::isfinite(norm);
  if (!finite && !skip_nan_)
    throw Error("step " + std::to_string(step_ + 1) + ": " +
                (std::isfinite(loss_value) ? "grad_norm" : "loss") + " is not finite (loss " +
                std::to_string(loss_value) + ", grad_norm " + std::to_string(norm) +
                "); resume from the last checkpoint with a smaller optim.learning_rate, or set "
                "run.on_nan: skip");
  metrics_.record("num_skipped_updates", finite ? 0.0 : 1.0, Reduce::kMax);
  if (finite) {
    optimizer_->step(learning_rate);
    model_.sync();
  }
  optimizer_->zero_grad();
  ++step_;
}

StateDict Learner::optimizer_state() const {
  StateDict state = optimizer_->state_dict();
  state.integers["learner.step"] = step_;
  return state;
}

void Learner::load(const std::filesystem::path& folder, const StateDict& optimizer) {
  model_.load(folder);
  optimizer_->load_state_dict(optimizer);
  step_ = optimizer.integers.at("learner.step");
  model_.sync();
}

}  // namespace meed
