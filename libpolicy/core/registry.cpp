#include "libpolicy/core/registry.h"

#include <algorithm>

#include "libpolicy/core/error.h"
#include "libpolicy/core/strings.h"

namespace meed {

std::vector<std::string> ComponentRegistry::names() const {
  std::vector<std::string> names;
  for (const auto& [name, info] : infos_) names.push_back(name);
  return names;
}

std::string ComponentRegistry::name_of(const ConfigNode& node) const {
  if (!node.is_map()) node.fail("expected a map with the key \"type\" that names a " + kind_);
  if (!node.has("type")) {
    std::string known;
    for (const auto& name : names()) known += " " + name;
    node.fail("missing key \"type\"; it names a " + kind_ + " (known:" + known + ")");
  }
  const auto type = node.at("type");
  const std::string name = type.as_string();
  if (has(name)) return name;
  std::string message = "unknown " + kind_ + " \"" + name + "\"";
  const auto known = names();
  if (const auto nearest = nearest_name(name, known); !nearest.empty())
    message += "; did you mean \"" + nearest + "\"?";
  message += " (known:";
  for (const auto& each : known) message += " " + each;
  type.fail(message + ")");
}

std::vector<std::string> ComponentRegistry::check(const ConfigNode& node) const {
  try {
    auto problems = info(name_of(node)).check(own_keys(node));
    if (common_)
      for (auto& problem : common_->check(node.with_keys(common_keys_, /*keep=*/true)))
        problems.push_back(std::move(problem));
    return problems;
  } catch (const ConfigError& e) {
    return {e.what()};
  }
}

std::vector<FieldInfo> ComponentRegistry::resolve(const ConfigNode& node) const {
  auto fields = info(name_of(node)).resolve(own_keys(node));
  if (common_)
    for (auto& field : common_->resolve(node.with_keys(common_keys_, /*keep=*/true))) fields.push_back(std::move(field));
  return fields;
}

void ComponentRegistry::add_info(const std::string& name, Info info) {
  if (infos_.emplace(name, std::move(info)).second) return;
  std::fprintf(stderr, "duplicate %s \"%s\"\n", kind_.c_str(), name.c_str());
  std::abort();
}

}  // namespace meed
