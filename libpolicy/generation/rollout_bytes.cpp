#include <ATen/ATen.h>

#include <nlohmann/json.hpp>

#include "libpolicy/generation/rollout_store.h"

namespace meed {
namespace {

using Json = nlohmann::json;

template <typename Value>
Json matrix_json(const at::Tensor& values_PG) {
  const auto values = values_PG.contiguous();
  const auto* data = values.const_data_ptr<Value>();
  return {{"sizes", values.sizes().vec()},
          {"values", std::vector<Value>(data, data + values.numel())}};
}

template <typename Value>
at::Tensor matrix_of(const Json& json, at::ScalarType dtype) {
  return at::tensor(json.at("values").get<std::vector<Value>>(), dtype)
      .view(json.at("sizes").get<std::vector<int64_t>>());
}

Json completion_json(const Completion& completion) {
  return {{"ids", completion.token_ids},
          {"logprobs", completion.logprobs},
          {"mask", completion.loss_mask},
          {"ends", completion.step_ends},
          {"text", completion.text},
          {"reason", static_cast<int64_t>(completion.finish_reason)},
          {"version", completion.policy_version}};
}

Completion completion_of(const Json& json) {
  Completion completion;
  completion.token_ids = json.at("ids").get<std::vector<int64_t>>();
  completion.logprobs = json.at("logprobs").get<std::vector<float>>();
  completion.loss_mask = json.at("mask").get<std::vector<uint8_t>>();
  completion.step_ends = json.at("ends").get<std::vector<int64_t>>();
  completion.text = json.at("text").get<std::string>();
  completion.finish_reason = static_cast<FinishReason>(json.at("reason").get<int64_t>());
  completion.policy_version = json.at("version").get<int64_t>();
  return completion;
}

}  // namespace

std::string to_bytes(const StoredRollouts& rollouts) {
  Json json{{"step", rollouts.step},
            {"groups", Json::array()},
            {"rewards", matrix_json<double>(rollouts.rewards_PG)},
            {"advantages", matrix_json<float>(rollouts.advantages_PG)},
            {"components", Json::object()},
            {"transformed", Json::object()},
            {"weights", rollouts.weights},
            {"tokens", rollouts.tokens_PGT}};
  if (rollouts.terminal_PG.defined()) json["terminal"] = matrix_json<double>(rollouts.terminal_PG);
  for (const auto& group : rollouts.groups) {
    Json completions = Json::array();
    for (const auto& each : group.completions) completions.push_back(completion_json(each));
    json["groups"].push_back({{"example", example_json(group.example)},
                              {"prompt", group.prompt_ids},
                              {"completions", std::move(completions)}});
  }
  for (const auto& [name, values] : rollouts.components)
    json["components"][name] = matrix_json<double>(values);
  for (const auto& [name, values] : rollouts.transformed)
    json["transformed"][name] = matrix_json<double>(values);
  std::string bytes;
  Json::to_cbor(json, bytes);
  return bytes;
}

StoredRollouts from_bytes(const std::string& bytes) {
  const auto json = Json::from_cbor(bytes);
  StoredRollouts rollouts;
  rollouts.step = json.at("step").get<int64_t>();
  rollouts.rewards_PG = matrix_of<double>(json.at("rewards"), at::kDouble);
  if (json.contains("terminal"))
    rollouts.terminal_PG = matrix_of<double>(json.at("terminal"), at::kDouble);
  rollouts.advantages_PG = matrix_of<float>(json.at("advantages"), at::kFloat);
  rollouts.weights = json.at("weights").get<std::map<std::string, double>>();
  rollouts.tokens_PGT = json.at("tokens").get<std::vector<std::vector<std::vector<double>>>>();
  for (const auto& each : json.at("groups")) {
    auto& group = rollouts.groups.emplace_back();
    group.example = example_from_json(each.at("example").get<std::string>());
    group.prompt_ids = each.at("prompt").get<std::vector<int64_t>>();
    for (const auto& completion : each.at("completions"))
      group.completions.push_back(completion_of(completion));
  }
  for (const auto& [name, values] : json.at("components").items())
    rollouts.components[name] = matrix_of<double>(values, at::kDouble);
  for (const auto& [name, values] : json.at("transformed").items())
    rollouts.transformed[name] = matrix_of<double>(values, at::kDouble);
  return rollouts;
}

}  // namespace meed
