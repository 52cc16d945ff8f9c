#include "libpolicy/generation/rollout_store.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "libpolicy/core/error.h"
#include "libpolicy/core/hdf5_file.h"

namespace meed {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

constexpr const char* kFormat = "meed rollouts 1";

Json content_json(const Content& content) {
  if (!content.conversational) return content.text;
  Json messages = Json::array();
  for (const auto& message : content.messages)
    messages.push_back({{"role", message.role}, {"content", message.content}});
  return messages;
}

Content content_of(const Json& json) {
  Content content;
  if (json.is_string()) {
    content.text = json.get<std::string>();
    return content;
  }
  content.conversational = true;
  for (const auto& message : json)
    content.messages.push_back(
        {message.at("role").get<std::string>(), message.at("content").get<std::string>(), ""});
  return content;
}

}  // namespace

std::string example_json(const Example& example) {
  const Json json{{"prompt", content_json(example.prompt)},
                  {"tools", example.prompt.tools},
                  {"row", example.row},
                  {"columns", example.extra}};
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

Example example_from_json(const std::string& text) {
  const auto json = Json::parse(text);
  Example example;
  example.prompt = content_of(json.at("prompt"));
  example.prompt.tools = json.value("tools", "");
  example.row = json.at("row").get<int64_t>();
  example.extra = json.at("columns").get<std::map<std::string, std::string>>();
  return example;
}

namespace {

/// Sequences end to end with the places at which they begin.
template <typename Value>
struct Ragged {
  std::vector<Value> values;
  std::vector<int64_t> offsets{0};
  template <typename Range>
  void add(const Range& range) {
    values.insert(values.end(), range.begin(), range.end());
    offsets.push_back(static_cast<int64_t>(values.size()));
  }
};

template <typename Value>
std::vector<Value> part(const at::Tensor& values, const at::Tensor& offsets, int64_t index) {
  const auto* data = values.const_data_ptr<Value>();
  const auto* at = offsets.const_data_ptr<int64_t>();
  return {data + at[index], data + at[index + 1]};
}

void check_offsets(const std::string& where, const at::Tensor& offsets, int64_t count,
                   int64_t values) {
  bool good = offsets.dim() == 1 && offsets.numel() == count + 1 &&
              offsets.scalar_type() == at::kLong && offsets[0].item<int64_t>() == 0 &&
              offsets[count].item<int64_t>() == values;
  if (good && count > 0)
    good = (offsets.narrow(0, 1, count) >= offsets.narrow(0, 0, count)).all().item<bool>();
  if (!good) throw DataError(where + ": offsets that do not fit their values; the file is damaged");
}

at::Tensor load_as(const Hdf5Reader& file, const std::string& name, at::ScalarType dtype) {
  return file.load(name).to(dtype).contiguous();
}

void write_completions(const StoredRollouts& rollouts, Hdf5Writer& file) {
  Ragged<int64_t> tokens, steps;
  Ragged<float> logprobs;
  Ragged<uint8_t> mask;
  Ragged<double> dense;
  std::vector<std::string> texts;
  std::vector<int64_t> reasons, versions;
  for (size_t p = 0; p < rollouts.groups.size(); ++p)
    for (size_t g = 0; g < rollouts.groups[p].completions.size(); ++g) {
      const auto& completion = rollouts.groups[p].completions[g];
      const size_t length = completion.token_ids.size();
      tokens.add(completion.token_ids);
      logprobs.add(completion.logprobs);
      mask.add(completion.loss_mask.empty() ? std::vector<uint8_t>(length, 1)
                                            : completion.loss_mask);
      steps.add(completion.step_ends);
      if (!rollouts.tokens_PGT.empty()) {
        auto values = rollouts.tokens_PGT[p][g];
        values.resize(length, 0.0);
        dense.add(values);
      }
      texts.push_back(completion.text);
      reasons.push_back(static_cast<int64_t>(completion.finish_reason));
      versions.push_back(completion.policy_version);
    }
  const auto P = static_cast<int64_t>(rollouts.groups.size());
  file.append("completion_tokens", at::tensor(tokens.values, at::kLong));
  file.append("completion_offsets", at::tensor(tokens.offsets, at::kLong));
  file.append("logprobs", at::tensor(logprobs.values, at::kFloat));
  file.append("loss_mask", at::tensor(mask.values, at::kByte));
  file.append("step_ends", at::tensor(steps.values, at::kLong));
  file.append("step_offsets", at::tensor(steps.offsets, at::kLong));
  if (!rollouts.tokens_PGT.empty())
    file.append("token_rewards", at::tensor(dense.values, at::kDouble));
  file.append("finish_reason", at::tensor(reasons, at::kLong).view({P, -1}));
  file.append("weight_version", at::tensor(versions, at::kLong).view({P, -1}));
  file.write_texts("completions", texts);
}

void read_completions(const Hdf5Reader& file, const std::string& where, StoredRollouts& rollouts) {
  const int64_t P = rollouts.rewards_PG.size(0), G = rollouts.rewards_PG.size(1);
  const auto tokens = load_as(file, "completion_tokens", at::kLong);
  const auto offsets = load_as(file, "completion_offsets", at::kLong);
  const auto logprobs = load_as(file, "logprobs", at::kFloat);
  const auto mask = load_as(file, "loss_mask", at::kByte);
  const auto steps = load_as(file, "step_ends", at::kLong);
  const auto step_offsets = load_as(file, "step_offsets", at::kLong);
  const auto texts = file.load_texts("completions");
  const auto reasons = load_as(file, "finish_reason", at::kLong).view({-1});
  const auto versions = load_as(file, "weight_version", at::kLong).view({-1});
  check_offsets(where, offsets, P * G, tokens.numel());
  check_offsets(where, step_offsets, P * G, steps.numel());
  if (logprobs.numel() != tokens.numel() || mask.numel() != tokens.numel() ||
      static_cast<int64_t>(texts.size()) != P * G || reasons.numel() != P * G ||
      versions.numel() != P * G)
    throw DataError(where + ": datasets of different lengths; the file is damaged");
  const bool has_dense = file.has("token_rewards");
  const auto dense = has_dense ? load_as(file, "token_rewards", at::kDouble) : at::Tensor();
  if (has_dense && dense.numel() != tokens.numel())
    throw DataError(where + ": token_rewards: expected one for each token");
  for (int64_t p = 0; p < P; ++p) {
    auto& group = rollouts.groups[static_cast<size_t>(p)];
    if (has_dense) rollouts.tokens_PGT.emplace_back();
    for (int64_t i = p * G; i < (p + 1) * G; ++i) {
      Completion completion;
      completion.token_ids = part<int64_t>(tokens, offsets, i);
      completion.logprobs = part<float>(logprobs, offsets, i);
      completion.loss_mask = part<uint8_t>(mask, offsets, i);
      completion.step_ends = part<int64_t>(steps, step_offsets, i);
      completion.text = texts[static_cast<size_t>(i)];
      completion.finish_reason = static_cast<FinishReason>(reasons[i].item<int64_t>());
      completion.policy_version = versions[i].item<int64_t>();
      group.completions.push_back(std::move(completion));
      if (has_dense) rollouts.tokens_PGT.back().push_back(part<double>(dense, offsets, i));
    }
  }
}

constexpr const char* kComponents = "components/";
constexpr const char* kTransformed = "transformed/";

}  // namespace

RolloutStore::RolloutStore(fs::path folder) : folder_(std::move(folder)) {}

void RolloutStore::write(const StoredRollouts& rollouts) const {
  if (rollouts.groups.empty()) return;
  fs::create_directories(folder_);
  char name[32];
  std::snprintf(name, sizeof name, "step-%08lld.h5", static_cast<long long>(rollouts.step));
  Hdf5Writer file(folder_ / name, /*compress=*/true);
  Ragged<int64_t> prompts;
  std::vector<std::string> examples;
  for (const auto& group : rollouts.groups) {
    prompts.add(group.prompt_ids);
    examples.push_back(example_json(group.example));
  }
  file.append("prompt_tokens", at::tensor(prompts.values, at::kLong));
  file.append("prompt_offsets", at::tensor(prompts.offsets, at::kLong));
  file.write_texts("examples", examples);
  write_completions(rollouts, file);
  file.append("rewards", rollouts.rewards_PG.to(at::kDouble));
  if (rollouts.terminal_PG.defined())
    file.append("terminal_rewards", rollouts.terminal_PG.to(at::kDouble));
  file.append("advantages", rollouts.advantages_PG.to(at::kFloat));
  for (const auto& [key, values] : rollouts.components) file.append(kComponents + key, values);
  for (const auto& [key, values] : rollouts.transformed) file.append(kTransformed + key, values);
  file.set_attribute("format", kFormat);
  file.set_attribute("step", std::to_string(rollouts.step));
  file.set_attribute("weights", Json(rollouts.weights).dump());
  file.commit();
}

std::vector<fs::path> RolloutStore::files() const {
  std::vector<fs::path> found;
  if (fs::is_directory(folder_))
    for (const auto& entry : fs::directory_iterator(folder_)) {
      const auto name = entry.path().filename().string();
      if (name.starts_with("step-") && name.ends_with(".h5")) found.push_back(entry.path());
    }
  if (found.empty())
    throw DataError(folder_.string() +
                    ": holds no rollouts (step-*.h5); a run with rollout.store "
                    "writes them");
  std::sort(found.begin(), found.end());
  return found;
}

StoredRollouts RolloutStore::read(const fs::path& path) {
  const Hdf5Reader file(path);
  const auto where = path.string();
  if (file.attribute("format").value_or("") != kFormat)
    throw DataError(where + ": not a file of rollouts (its attribute `format` is not \"" +
                    std::string(kFormat) + "\")");
  StoredRollouts rollouts;
  rollouts.rewards_PG = load_as(file, "rewards", at::kDouble);
  if (file.has("terminal_rewards"))
    rollouts.terminal_PG = load_as(file, "terminal_rewards", at::kDouble);
  rollouts.advantages_PG = load_as(file, "advantages", at::kFloat);
  if (rollouts.rewards_PG.dim() != 2 ||
      rollouts.advantages_PG.sizes() != rollouts.rewards_PG.sizes() ||
      (rollouts.terminal_PG.defined() &&
       rollouts.terminal_PG.sizes() != rollouts.rewards_PG.sizes()))
    throw DataError(
        where +
        ": rewards, terminal_rewards and advantages: expected [prompts, completions] of each");
  const auto prompts = load_as(file, "prompt_tokens", at::kLong);
  const auto offsets = load_as(file, "prompt_offsets", at::kLong);
  const auto examples = file.load_texts("examples");
  const int64_t P = rollouts.rewards_PG.size(0);
  check_offsets(where, offsets, P, prompts.numel());
  if (static_cast<int64_t>(examples.size()) != P)
    throw DataError(where + ": examples: expected one for each prompt");
  try {
    rollouts.step = std::stoll(file.attribute("step").value_or("0"));
    rollouts.weights =
        Json::parse(file.attribute("weights").value_or("{}")).get<std::map<std::string, double>>();
    for (int64_t p = 0; p < P; ++p) {
      auto& group = rollouts.groups.emplace_back();
      group.example = example_from_json(examples[static_cast<size_t>(p)]);
      group.prompt_ids = part<int64_t>(prompts, offsets, p);
    }
  } catch (const std::exception& e) {
    throw DataError(where + ": " + e.what());
  }
  read_completions(file, where, rollouts);
  for (const auto& name : file.names()) {
    if (name.starts_with(kComponents))
      rollouts.components[name.substr(std::string(kComponents).size())] =
          load_as(file, name, at::kDouble);
    if (name.starts_with(kTransformed))
      rollouts.transformed[name.substr(std::string(kTransformed).size())] =
          load_as(file, name, at::kDouble);
  }
  return rollouts;
}

}  // namespace meed
