#include <algorithm>

#include "libpolicy/core/config.h"
#include "libpolicy/core/error.h"
#include "libpolicy/core/registry.h"
#include "libpolicy/core/strings.h"

namespace meed {

namespace detail {

StrictReader::StrictReader(const ConfigNode& node, bool has_type) {
  levels_.push_back({node, {}});
  if (has_type) levels_.back().known.emplace_back("type");
  if (!node.is_map()) problems_.push_back(node.where() + ": expected a map of keys");
}

template <typename Read>
void StrictReader::read(const char* name, Read&& read_value) {
  auto& level = levels_.back();
  level.known.emplace_back(name);
  if (!level.node.has(name)) return;
  const auto node = level.node.at(name);
  try {
    read_value(node);
  } catch (const ConfigError& e) {
    problems_.emplace_back(e.what());
    broken_.push_back(node.where());
  }
}

namespace {

bool is_none(const ConfigNode& node) {
  return node.is_null() || (!node.is_map() && !node.is_list() &&
                            (node.as_string() == "none" || node.as_string() == "null"));
}

template <typename Value, typename As>
std::vector<Value> as_list(const ConfigNode& node, As as) {
  std::vector<Value> values;
  if (!node.is_list()) return {as(node)};
  for (const auto& item : node.items()) values.push_back(as(item));
  return values;
}

}  // namespace

void StrictReader::field(const char* name, bool& value, const char*) {
  read(name, [&](const ConfigNode& node) { value = node.as_bool(); });
}
void StrictReader::field(const char* name, int64_t& value, const char*) {
  read(name, [&](const ConfigNode& node) { value = node.as_int(); });
}
void StrictReader::field(const char* name, double& value, const char*) {
  read(name, [&](const ConfigNode& node) { value = node.as_double(); });
}
void StrictReader::field(const char* name, std::string& value, const char*) {
  read(name, [&](const ConfigNode& node) { value = node.as_string(); });
}
void StrictReader::field(const char* name, std::optional<int64_t>& value, const char*) {
  read(name, [&](const ConfigNode& node) {
    value.reset();
    if (!is_none(node)) value = node.as_int();
  });
}
void StrictReader::field(const char* name, std::optional<double>& value, const char*) {
  read(name, [&](const ConfigNode& node) {
    value.reset();
    if (!is_none(node)) value = node.as_double();
  });
}
void StrictReader::field(const char* name, std::optional<std::string>& value, const char*) {
  read(name, [&](const ConfigNode& node) {
    value.reset();
    if (!is_none(node)) value = node.as_string();
  });
}
void StrictReader::field(const char* name, std::vector<std::string>& value, const char*) {
  read(name, [&](const ConfigNode& node) {
    value = as_list<std::string>(node, [](const ConfigNode& item) { return item.as_string(); });
  });
}
void StrictReader::field(const char* name, std::vector<double>& value, const char*) {
  read(name, [&](const ConfigNode& node) {
    value = as_list<double>(node, [](const ConfigNode& item) { return item.as_double(); });
  });
}
void StrictReader::field(const char* name, std::vector<int64_t>& value, const char*) {
  read(name, [&](const ConfigNode& node) {
    value = as_list<int64_t>(node, [](const ConfigNode& item) { return item.as_int(); });
  });
}
void StrictReader::field(const char* name, std::map<std::string, std::string>& value, const char*) {
  read(name, [&](const ConfigNode& node) {
    if (!node.is_map()) node.fail("expected a map of words");
    value.clear();
    for (const auto& key : node.keys()) value[key] = node.at(key).as_string();
  });
}

void StrictReader::choice(const char* name, std::string& value,
                          const std::vector<std::string>& allowed, const char*) {
  read(name, [&](const ConfigNode& node) {
    value = node.as_string();
    if (std::find(allowed.begin(), allowed.end(), value) != allowed.end()) return;
    std::string message = "expected one of";
    for (const auto& each : allowed) message += (&each == &allowed.front() ? " " : ", ") + each;
    message += "; got \"" + value + "\"";
    if (const auto nearest = nearest_name(value, allowed); !nearest.empty())
      message += "; did you mean \"" + nearest + "\"?";
    node.fail(message);
  });
}

void StrictReader::check_component(const ConfigNode& node, const ComponentRegistry& registry) {
  for (auto& problem : registry.check(node)) problems_.push_back(std::move(problem));
}

void StrictReader::component(const char* name, std::optional<ConfigNode>& value,
                             const ComponentRegistry& registry, const char*) {
  read(name, [&](const ConfigNode& node) {
    value.reset();
    if (node.is_null()) return;
    check_component(node, registry);
    value = node;
  });
}

void StrictReader::components(const char* name, std::vector<ConfigNode>& value,
                              const ComponentRegistry& registry, const char*) {
  read(name, [&](const ConfigNode& node) {
    value.clear();
    if (node.is_null()) return;
    if (!node.is_list())
      node.fail("expected a list, each item with a \"type\" that names a " + registry.kind());
    for (const auto& item : node.items()) {
      check_component(item, registry);
      value.push_back(item);
    }
  });
}

void StrictReader::required(const char* name) {
  const auto& node = levels_.back().node;
  if (node.has(name)) return;
  problems_.push_back(node.where() + ": missing key \"" + name + "\"");
}

void StrictReader::require(bool ok, const char* name, const std::string& problem) {
  if (ok) return;
  const auto& node = levels_.back().node;
  if (!node.has(name)) {
    problems_.push_back(node.where() + (node.where().ends_with(">") ? ": " : ".") + name + ": " +
                        problem);
    return;
  }
  const auto where = node.at(name).where();
  if (std::find(broken_.begin(), broken_.end(), where) != broken_.end()) return;
  const auto value = node.at(name);
  const bool scalar = !value.is_map() && !value.is_list() && !value.is_null();
  problems_.push_back(where + ": " + problem + (scalar ? ", got " + value.as_string() : ""));
}

void StrictReader::begin_section(const char* name, const char*) {
  auto& level = levels_.back();
  level.known.emplace_back(name);
  ConfigNode node;
  if (level.node.has(name)) {
    node = level.node.at(name);
    if (!node.is_map() && !node.is_null()) {
      problems_.push_back(node.where() + ": expected a map of keys");
    }
  } else {
    node = level.node.absent(name);
  }
  levels_.push_back({node, {}});
}

void StrictReader::close_level() {
  const auto& level = levels_.back();
  for (const auto& key : level.node.keys()) {
    if (std::find(level.known.begin(), level.known.end(), key) != level.known.end()) continue;
    std::string message = level.node.at(key).where() + ": unknown key";
    auto known = level.known;
    for (const auto& each : level.node.keys_elsewhere()) known.push_back(each);
    const auto nearest = nearest_name(key, known);
    if (!nearest.empty()) {
      message += "; did you mean \"" + nearest + "\"?";
    } else {
      message += " (known:";
      for (const auto& each : known) message += " " + each;
      message += ")";
    }
    problems_.push_back(message);
  }
  levels_.pop_back();
}

void StrictReader::end_section() { close_level(); }

std::vector<std::string> StrictReader::finish() {
  close_level();
  return std::move(problems_);
}

}  // namespace detail
}  // namespace meed
