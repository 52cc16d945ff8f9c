#include "libpolicy/optim/adamw.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <map>

#include "libpolicy/core/error.h"

namespace meed {

AdamW::AdamW(NamedParameters parameters, const AdamWOptions& options) : options_(options) {
  for (auto& [name, tensor] : parameters) {
    MEED_CHECK(tensor.scalar_type() == at::kFloat, name + " is not float32");
    slots_.push_back(
        {name, tensor, at::zeros_like(tensor).detach(), at::zeros_like(tensor).detach()});
  }
}

void AdamW::step(double learning_rate) {
  at::NoGradGuard no_grad;
  ++steps_;
  struct Group {
    std::vector<at::Tensor> parameters, gradients, exp_avgs, exp_avg_sqs;
  };
  // What one call updates is alike in its decay and its device.
  std::map<std::pair<std::string, bool>, Group> groups;
  for (auto& slot : slots_) {
    const auto& gradient = slot.parameter.grad();
    if (!gradient.defined()) continue;
    auto& group = groups[{slot.parameter.device().str(), slot.parameter.dim() > 1}];
    group.parameters.push_back(slot.parameter);
    group.gradients.push_back(gradient);
    group.exp_avgs.push_back(slot.exp_avg);
    group.exp_avg_sqs.push_back(slot.exp_avg_sq);
  }
  for (auto& [key, group] : groups) {
    const std::vector<at::Tensor> counts(
        group.parameters.size(),
        at::full({}, static_cast<double>(steps_), group.exp_avgs[0].options()));
    at::_fused_adamw_(group.parameters, group.gradients, group.exp_avgs, group.exp_avg_sqs,
                      /*max_exp_avg_sqs=*/{}, counts, learning_rate, options_.beta1, options_.beta2,
                      key.second ? options_.weight_decay : 0.0, options_.epsilon,
                      /*amsgrad=*/false, /*maximize=*/false);
  }
}

void AdamW::zero_grad() {
  for (auto& slot : slots_) slot.parameter.mutable_grad() = at::Tensor();
}

StateDict AdamW::state_dict() const {
  StateDict state;
  for (const auto& slot : slots_) {
    state.tensors["exp_avg." + slot.name] = slot.exp_avg;
    state.tensors["exp_avg_sq." + slot.name] = slot.exp_avg_sq;
  }
  state.integers["adamw.steps"] = steps_;
  return state;
}

void AdamW::load_state_dict(const StateDict& state) {
  at::NoGradGuard no_grad;
  const auto take = [&](const std::string& name, at::Tensor& into) {
    const auto found = state.tensors.find(name);
    if (found == state.tensors.end())
      throw DataError("optimiser state has no tensor \"" + name +
                      "\"; it belongs to another model");
    if (found->second.sizes() != into.sizes())
      throw DataError("optimiser state: " + name +
                      " has another shape; it belongs to another model");
    into.copy_(found->second);
  };
  for (auto& slot : slots_) {
    take("exp_avg." + slot.name, slot.exp_avg);
    take("exp_avg_sq." + slot.name, slot.exp_avg_sq);
  }
  const auto steps = state.integers.find("adamw.steps");
  if (steps == state.integers.end()) throw DataError("optimiser state has no \"adamw.steps\"");
  steps_ = steps->second;
}

}  // namespace meed
