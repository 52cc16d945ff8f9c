#include "libreward/reward_transform.h"

#include <ATen/ATen.h>

#include <cmath>

#include "libreward/reward_function.h"

namespace meed {

Registry<RewardTransform>& reward_transforms() {
  static Registry<RewardTransform> registry("reward transform");
  return registry;
}

void RewardBatch::for_each(const std::function<double(double)>& f) {
  const auto apply = [&](double value) { return std::isnan(value) ? value : f(value); };
  at::Tensor changed = outcome_PG.to(at::kDouble).contiguous().clone();
  auto* data = changed.data_ptr<double>();
  for (int64_t i = 0; i < changed.numel(); ++i) data[i] = apply(data[i]);
  outcome_PG = changed;
  for (auto* nested : {&steps_PGS, &tokens_PGT})
    for (auto& group : *nested)
      for (auto& completion : group)
        for (double& value : completion) value = apply(value);
}

std::string check_shapes(const ConfigNode& reward) {
  if (!reward.is_map() || !reward.has("type") || !reward.has("transforms")) return "";
  if (!reward_functions().has(reward.at("type").as_string())) return "";
  const auto name = reward.at("type").as_string();
  std::string given = reward_functions().info(name).shapes;
  if (given.empty()) given = "outcome";
  const auto gives = [&](const std::string& shape) {
    return given.find(shape) != std::string::npos;
  };
  const auto node = reward.at("transforms");
  for (const auto& each : node.is_list() ? node.items() : std::vector<ConfigNode>{node}) {
    const auto type = each.is_map() && each.has("type") ? each.at("type").as_string() : "";
    if (!reward_transforms().has(type)) continue;
    const auto& taken = reward_transforms().info(type).shapes;
    for (const char* shape : {"outcome", "step", "token"})
      if (taken.find(shape) != std::string::npos && !gives(shape))
        return each.where() + ": " + type + " takes " + shape + " rewards, but " + name +
               " gives only " + given + " rewards";
  }
  return "";
}

}  // namespace meed
