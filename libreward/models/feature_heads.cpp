#include "libreward/models/feature_heads.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <nlohmann/json.hpp>

#include "libpolicy/checkpoint/safetensors.h"
#include "libpolicy/core/error.h"
#include "libpolicy/core/files.h"
#include "libpolicy/core/metrics.h"
#include "libpolicy/core/random.h"
#include "libpolicy/distributed/communicator.h"
#include "libreward/functions/ensemble.h"

namespace meed {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

/// meed.json of a folder. Throws DataError if it is not there or not JSON.
Json read_json(const fs::path& folder) {
  const auto file = folder / "meed.json";
  if (!fs::is_regular_file(file))
    throw DataError(folder.string() + ": has no meed.json: not the folder of a reward head");
  auto json = Json::parse(read_file(file), nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) throw DataError(file.string() + ": is no JSON object");
  return json;
}

template <typename Value>
Value value_of(const Json& json, const char* key, const fs::path& folder) {
  try {
    return json.at(key).get<Value>();
  } catch (const Json::exception&) {
    throw DataError((folder / "meed.json").string() + ": \"" + key +
                    "\" is missing or of the wrong type");
  }
}

}  // namespace

std::unique_ptr<FeatureHeads> FeatureHeads::create(const Fresh& fresh) {
  MEED_CHECK(fresh.features > 0 && fresh.num_members > 0, "a head on features of some size");
  auto heads = std::make_unique<FeatureHeads>();
  heads->features_ = fresh.features;
  heads->context_ = fresh.context;
  for (int64_t m = 0; m < fresh.num_members; ++m) {
    auto config = fresh.head;
    if (fresh.vary == "pretrain") {
      if (reward_heads().name_of(config) != "random_features")
        throw ConfigError("algorithm.ensemble.vary: pretrain needs head: {type: random_features}");
      const int64_t first = config.has("map_seed") ? config.at("map_seed").as_int() : 0;
      config = config.with_overrides({"map_seed=" + std::to_string(first + m)});
    }
    const int64_t own = fresh.vary == "order" ? 0 : m;
    heads->add_member(config, mix_seed({fresh.seed, static_cast<uint64_t>(own)}));
  }
  heads->collect_parameters();
  return heads;
}

void FeatureHeads::add_member(const ConfigNode& config, uint64_t seed) {
  const auto comm = Communicator::create({}, at::kCPU, "single");
  NullMetrics metrics;
  RunContext context{.comm = *comm, .metrics = metrics};
  Member member{config, reward_heads().create(config, context)};
  if (context_ > 0) member.head->set_context_size(context_);
  member.head->init(features_, seed);
  members_.push_back(std::move(member));
}

void FeatureHeads::collect_parameters() {
  for (size_t m = 0; m < members_.size(); ++m)
    for (const auto& [name, tensor] : members_[m].head->parameters().items())
      parameters_.add(members_.size() == 1 ? name : "member-" + std::to_string(m) + "." + name,
                      tensor);
}

bool FeatureHeads::is_folder(const fs::path& path) {
  const auto file = path / "meed.json";
  if (!fs::is_regular_file(file)) return false;
  const auto json = Json::parse(read_file(file), nullptr, /*allow_exceptions=*/false);
  return json.is_object() && (json.contains("members") || json.contains("num_features"));
}

std::unique_ptr<FeatureHeads> FeatureHeads::load(const fs::path& folder) {
  auto heads = std::make_unique<FeatureHeads>();
  const auto json = read_json(folder);
  if (!json.contains("members")) {
    heads->add_saved(folder);
  } else {
    const auto members = value_of<std::vector<std::string>>(json, "members", folder);
    if (members.empty()) throw DataError(folder.string() + ": the ensemble has no members");
    for (const auto& member : members) heads->add_saved(folder / member);
    heads->aggregate = {value_of<std::string>(json, "aggregate", folder),
                        value_of<double>(json, "std_coef", folder)};
    if (heads->aggregate.how != "mean" && heads->aggregate.how != "median" &&
        heads->aggregate.how != "min" && heads->aggregate.how != "mean_minus_std")
      throw DataError((folder / "meed.json").string() + ": unknown aggregate \"" +
                      heads->aggregate.how + "\"");
  }
  heads->collect_parameters();
  return heads;
}

void FeatureHeads::add_saved(const fs::path& folder) {
  const auto json = read_json(folder);
  const auto features = value_of<int64_t>(json, "num_features", folder);
  const auto context = value_of<int64_t>(json, "num_context", folder);
  if (!members_.empty() && (features != features_ || context != context_))
    throw DataError(folder.string() + ": features of " + std::to_string(features) +
                    " numbers, the members before have " + std::to_string(features_));
  features_ = features;
  context_ = context;
  source = {value_of<std::string>(json, "model", folder),
            value_of<std::string>(json, "pooling", folder),
            value_of<int64_t>(json, "max_length", folder)};
  const auto file = (folder / "meed.json").string();
  add_member(ConfigNode::parse_string(value_of<std::string>(json, "head", folder), file), 0);
  const SafetensorsFile weights(folder / "head.safetensors");
  const at::NoGradGuard no_grad;
  for (const auto& [name, tensor] : members_.back().head->parameters().items()) {
    const auto value = weights.load(name);
    if (value.sizes() != tensor.sizes())
      throw DataError((folder / "head.safetensors").string() + ": " + name + ": expected " +
                      c10::str(tensor.sizes()) + ", the file has " + c10::str(value.sizes()));
    tensor.copy_(value);
  }
}

void FeatureHeads::save(const fs::path& folder) const {
  std::vector<std::string> names;
  for (size_t m = 0; m < members_.size(); ++m) {
    const auto& [config, head] = members_[m];
    if (members_.size() > 1) names.push_back("member-" + std::to_string(m));
    const auto place = names.empty() ? folder : folder / names.back();
    fs::create_directories(place);
    NamedTensors tensors;
    for (const auto& [name, tensor] : head->parameters().items())
      tensors.emplace_back(name, tensor.detach().contiguous());
    write_safetensors(place / "head.safetensors", tensors);
    const Json json = {{"head", config.to_yaml()},  {"num_features", features_},
                       {"num_context", context_},   {"model", source.model},
                       {"pooling", source.pooling}, {"max_length", source.max_length}};
    write_file_atomic(place / "meed.json", json.dump(2) + "\n");
  }
  if (names.empty()) return;
  const Json json = {
      {"members", names}, {"aggregate", aggregate.how}, {"std_coef", aggregate.std_coef}};
  write_file_atomic(folder / "meed.json", json.dump(2) + "\n");
}

std::string FeatureHeads::type() const { return reward_heads().name_of(members_[0].config); }

at::Tensor FeatureHeads::member_rewards(const HeadInput& input) const {
  if (input.features_BD.size(1) != features_)
    throw DataError("expected features of " + std::to_string(features_) + " numbers, got " +
                    std::to_string(input.features_BD.size(1)));
  if (context_ > 0 && input.context_BD.size(1) != context_)
    throw DataError("expected context features of " + std::to_string(context_) + " numbers, got " +
                    std::to_string(input.context_BD.size(1)));
  std::vector<at::Tensor> rewards;
  for (const auto& member : members_) rewards.push_back(member.head->forward(input).rewards_B);
  return at::stack(rewards);
}

at::Tensor FeatureHeads::aggregated(const at::Tensor& rewards_MB) const {
  if (size() == 1) return rewards_MB[0];
  return aggregate_members(rewards_MB, aggregate.how, aggregate.std_coef);
}

at::Tensor FeatureHeads::preference(const HeadInput& first, const HeadInput& second) const {
  if (size() > 1) return rewards(first) - rewards(second);
  const auto& head = *members_[0].head;
  return head.preference(head.forward(first), head.forward(second));
}

void copy_weights(const FeatureHeads& from, FeatureHeads& heads, const std::string& where) {
  const at::NoGradGuard no_grad;
  for (int64_t m = 0; m < heads.size(); ++m) {
    if (m >= from.size())
      throw DataError(where + ": has " + std::to_string(from.size()) + " heads");
    const auto& source = from.member(m).parameters();
    for (const auto& [name, tensor] : heads.member(m).parameters().items()) {
      if (!source.has(name)) throw DataError(where + ": has no " + name + ": another kind of head");
      const auto& value = source.at(name);
      if (value.sizes() != tensor.sizes())
        throw DataError(where + ": " + name + ": expected " + c10::str(tensor.sizes()) +
                        ", it has " + c10::str(value.sizes()));
      tensor.copy_(value);
    }
  }
}

}  // namespace meed
