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

namespace {

/// Follows the shapes of a reward through its transforms; the problem that ends the way, or "".
std::string follow_shapes(const ConfigNode& reward, RewardShapes& shapes) {
  if (!reward.is_map() || !reward.has("type") || reward.at("type").is_map() ||
      reward.at("type").is_list())
    return "";
  const auto name = reward.at("type").as_string();
  if (!reward_functions().has(name)) return "";
  shapes.left = reward_functions().info(name).shapes;
  if (shapes.left.empty()) shapes.left = "outcome";
  if (!reward.has("transforms")) return "";
  const auto holds = [](const std::string& all, const char* shape) {
    return all.find(shape) != std::string::npos;
  };
  bool reduced = false;
  const auto node = reward.at("transforms");
  for (const auto& each : node.is_list() ? node.items() : std::vector<ConfigNode>{node}) {
    const auto type = each.is_map() && each.has("type") ? each.at("type").as_string() : "";
    if (!reward_transforms().has(type)) continue;
    const std::string shapes_of_it = reward_transforms().info(type).shapes;
    const auto arrow = shapes_of_it.find(" -> ");
    const auto taken = shapes_of_it.substr(0, arrow);
    for (const char* shape : {"outcome", "step", "token"})
      if (holds(taken, shape) && !holds(shapes.left, shape))
        return each.where() + ": " + type + " takes " + shape + " rewards, but " + name +
               (reduced ? " and the transforms before leave only " : " gives only ") + shapes.left +
               " rewards";
    if (holds(taken, "step")) shapes.shaper = type;
    if (arrow != std::string::npos) {
      shapes.left = shapes_of_it.substr(arrow + 4);
      reduced = true;
    }
    if (!holds(shapes.left, "step")) shapes.shaper.clear();
  }
  return "";
}

}  // namespace

std::string check_shapes(const ConfigNode& reward) {
  RewardShapes shapes;
  return follow_shapes(reward, shapes);
}

RewardShapes shapes_of(const ConfigNode& reward) {
  RewardShapes shapes;
  follow_shapes(reward, shapes);
  return shapes;
}

}  // namespace meed
