#include "algorithms/algorithm.h"

#include <set>

namespace meed {

Registry<Algorithm>& algorithms() {
  static Registry<Algorithm> registry("algorithm");
  return registry;
}

namespace {

std::set<std::string>& without_model() {
  static std::set<std::string> names;
  return names;
}

}  // namespace

bool works_without_model(const std::string& name) { return without_model().insert(name).second; }

bool needs_model(const std::optional<ConfigNode>& algorithm) {
  if (!algorithm || !algorithm->is_map() || !algorithm->has("type")) return true;
  const auto type = algorithm->at("type");
  if (type.is_map() || type.is_list() || type.is_null()) return true;
  return without_model().count(type.as_string()) == 0;
}

}  // namespace meed
