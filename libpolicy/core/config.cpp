#include "libpolicy/core/config.h"

#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <charconv>
#include <cmath>

#include "libpolicy/core/error.h"
#include "libpolicy/core/files.h"
#include "libpolicy/core/registry.h"
#include "libpolicy/core/strings.h"

namespace meed {

struct ConfigNode::Impl {
  enum class Kind { kNull, kScalar, kList, kMap };
  Kind kind = Kind::kMap;
  std::string scalar;
  bool quoted = false;
  std::string source = "<none>";  // "grpo.yaml:14:3" or "command line"
  std::string path;               // "algorithm.beta"
  std::vector<std::pair<std::string, std::shared_ptr<const Impl>>>
      children;  // list items have empty keys

  const Impl* find(const std::string& key) const {
    for (const auto& [name, child] : children)
      if (kind == Kind::kMap && name == key) return child.get();
    return nullptr;
  }
};

namespace {

using Impl = ConfigNode::Impl;
using Kind = Impl::Kind;
using Node = std::shared_ptr<const Impl>;

constexpr int kMaxDepth = 32;
constexpr int kMaxNodes = 100'000;  // aliases can make a small file expand without end

std::string child_path(const std::string& parent, const std::string& key) {
  return parent.empty() ? key : parent + "." + key;
}

std::string item_path(const std::string& parent, size_t index) {
  return parent + "[" + std::to_string(index) + "]";
}

/// Copies yaml-cpp's tree into ours.
class Importer {
 public:
  Importer(std::string file, bool with_marks) : file_(std::move(file)), with_marks_(with_marks) {}

  Node import(const YAML::Node& node, const std::string& path, int depth = 0) {
    auto result = std::make_shared<Impl>();
    result->path = path;
    result->source = mark(node);
    if (depth > kMaxDepth || ++count_ > kMaxNodes)
      throw ConfigError(result->source + ": nested too deeply or too large for a recipe");
    if (node.IsSequence()) {
      result->kind = Kind::kList;
      for (size_t i = 0; i < node.size(); ++i)
        result->children.emplace_back("", import(node[i], item_path(path, i), depth + 1));
    } else if (node.IsMap()) {
      import_map(node, *result, depth);
    } else if (node.IsScalar()) {
      result->kind = Kind::kScalar;
      result->scalar = node.Scalar();
      result->quoted = node.Tag() == "!";
    } else {
      result->kind = Kind::kNull;
    }
    return result;
  }

 private:
  void import_map(const YAML::Node& node, Impl& result, int depth) {
    result.kind = Kind::kMap;
    for (const auto& entry : node) {
      if (!entry.first.IsScalar()) throw ConfigError(mark(entry.first) + ": a key must be a word");
      const std::string key = entry.first.Scalar();
      if (result.find(key) != nullptr)
        throw ConfigError(mark(entry.first) + ": " + child_path(result.path, key) +
                          ": key given twice");
      result.children.emplace_back(key,
                                   import(entry.second, child_path(result.path, key), depth + 1));
    }
  }

  std::string mark(const YAML::Node& node) const {
    const auto at = node.Mark();
    if (!with_marks_ || at.is_null()) return file_;
    return file_ + ":" + std::to_string(at.line + 1) + ":" + std::to_string(at.column + 1);
  }

  std::string file_;
  bool with_marks_;
  int count_ = 0;
};

Node import_text(const std::string& yaml, const std::string& name, const std::string& path,
                 bool with_marks) {
  try {
    return Importer(name, with_marks).import(YAML::Load(yaml), path);
  } catch (const YAML::Exception& e) {
    std::string where = name;
    if (with_marks && !e.mark.is_null())
      where += ":" + std::to_string(e.mark.line + 1) + ":" + std::to_string(e.mark.column + 1);
    throw ConfigError(where + ": not valid YAML: " + e.msg);
  }
}

std::string shown(const Impl& node) {
  switch (node.kind) {
    case Kind::kNull:
      return "nothing";
    case Kind::kList:
      return "a list";
    case Kind::kMap:
      return "a map";
    case Kind::kScalar:
      break;
  }
  constexpr size_t kMaxShown = 60;
  const auto text =
      node.scalar.size() > kMaxShown ? node.scalar.substr(0, kMaxShown) + "..." : node.scalar;
  return "\"" + text + "\"";
}

// ---- overrides ----

struct Step {
  std::string key;
  std::optional<size_t> index;
};

std::vector<Step> split_path(const std::string& path) {
  std::vector<Step> steps;
  size_t at = 0;
  while (at < path.size()) {
    if (path[at] == '[') {
      size_t index = 0;
      const auto end = path.find(']', at);
      const auto [stop, error] =
          std::from_chars(path.data() + at + 1, path.data() + std::min(end, path.size()), index);
      if (end == std::string::npos || error != std::errc() || stop != path.data() + end) return {};
      steps.push_back({"", index});
      at = end + 1;
    } else {
      if (path[at] == '.') ++at;
      const auto end = std::min(path.find_first_of(".[", at), path.size());
      if (end == at) return {};
      steps.push_back({path.substr(at, end - at), std::nullopt});
      at = end;
    }
  }
  return steps;
}

Node set_value(const Node& node, std::span<const Step> steps, const Node& value) {
  if (steps.empty()) return value;
  auto copy = node ? std::make_shared<Impl>(*node) : std::make_shared<Impl>();
  if (!node) copy->source = value->source;
  const auto& step = steps.front();
  if (step.index) {
    if (copy->kind != Kind::kList || *step.index >= copy->children.size())
      throw ConfigError("there is no item " + std::to_string(*step.index));
    auto& child = copy->children[*step.index].second;
    child = set_value(child, steps.subspan(1), value);
    return copy;
  }
  if (copy->kind == Kind::kNull) copy->kind = Kind::kMap;
  if (copy->kind != Kind::kMap) throw ConfigError("\"" + copy->path + "\" is not a map");
  for (auto& [name, child] : copy->children) {
    if (name != step.key) continue;
    child = set_value(child, steps.subspan(1), value);
    return copy;
  }
  auto fresh = std::make_shared<Impl>();
  fresh->source = value->source;
  fresh->path = child_path(copy->path, step.key);
  copy->children.emplace_back(
      step.key, set_value(steps.size() > 1 ? Node(fresh) : nullptr, steps.subspan(1), value));
  return copy;
}

void emit(const Impl& node, YAML::Emitter& out) {
  switch (node.kind) {
    case Kind::kNull:
      out << YAML::Null;
      return;
    case Kind::kScalar:
      if (node.quoted) out << YAML::DoubleQuoted;
      out << node.scalar;
      return;
    case Kind::kList:
      out << YAML::BeginSeq;
      for (const auto& [name, child] : node.children) emit(*child, out);
      out << YAML::EndSeq;
      return;
    case Kind::kMap:
      out << YAML::BeginMap;
      for (const auto& [name, child] : node.children) {
        out << YAML::Key << name << YAML::Value;
        emit(*child, out);
      }
      out << YAML::EndMap;
  }
}

}  // namespace

ConfigNode::ConfigNode() : impl_(std::make_shared<Impl>()) {}

ConfigNode ConfigNode::parse_string(const std::string& yaml, const std::string& name) {
  Node node = import_text(yaml, name, "", /*with_marks=*/true);
  if (node->kind == Kind::kNull) return ConfigNode();
  return ConfigNode(node);
}

ConfigNode ConfigNode::parse_file(const std::filesystem::path& path) {
  std::string text;
  try {
    text = read_file(path);
  } catch (const DataError& e) {
    throw ConfigError(e.what());
  }
  return parse_string(text, path.string());
}

ConfigNode ConfigNode::with_overrides(const std::vector<std::string>& overrides) const {
  Node tree = impl_;
  std::vector<std::string> problems;
  for (const auto& setting : overrides) {
    const auto equals = setting.find('=');
    const auto steps = split_path(setting.substr(0, equals));
    if (equals == std::string::npos || steps.empty()) {
      problems.push_back("command line: \"" + setting +
                         "\": expected key=value, for example optim.learning_rate=1e-5");
      continue;
    }
    const std::string path = setting.substr(0, equals);
    try {
      tree = set_value(tree, steps,
                       import_text(setting.substr(equals + 1), "command line", path, false));
    } catch (const ConfigError& e) {
      problems.push_back("command line: " + path + ": " + e.what());
    }
  }
  throw_problems(problems);
  return ConfigNode(tree);
}

ConfigNode ConfigNode::with_keys(const std::vector<std::string>& keys, bool keep) const {
  auto copy = std::make_shared<Impl>(*impl_);
  std::erase_if(copy->children, [&](const auto& child) {
    return (std::find(keys.begin(), keys.end(), child.first) != keys.end()) != keep;
  });
  return ConfigNode(copy);
}

ConfigNode ConfigNode::with_default(const std::string& path, const ConfigNode& value) const {
  const auto steps = split_path(path);
  const Impl* node = impl_.get();
  for (const auto& step : steps) {
    if (node->kind == Kind::kNull) break;
    if (node->kind != Kind::kMap) return *this;
    node = node->find(step.key);
    if (node == nullptr) break;
  }
  if (node != nullptr && node->kind != Kind::kNull) return *this;
  return ConfigNode(set_value(impl_, steps, value.impl_));
}

ConfigNode ConfigNode::with_default(const std::string& path, const std::string& value) const {
  auto scalar = std::make_shared<Impl>();
  scalar->kind = Kind::kScalar;
  scalar->scalar = value;
  scalar->source = impl_->source;
  scalar->path = child_path(impl_->path, path);
  return with_default(path, ConfigNode(scalar));
}

bool ConfigNode::is_map() const { return impl_->kind == Kind::kMap; }
bool ConfigNode::is_list() const { return impl_->kind == Kind::kList; }
bool ConfigNode::is_null() const { return impl_->kind == Kind::kNull; }
bool ConfigNode::has(const std::string& key) const { return impl_->find(key) != nullptr; }

ConfigNode ConfigNode::at(const std::string& key) const {
  if (is_map())
    for (const auto& [name, child] : impl_->children)
      if (name == key) return ConfigNode(child);
  fail("missing key \"" + key + "\"");
}

std::vector<ConfigNode> ConfigNode::items() const {
  std::vector<ConfigNode> nodes;
  if (is_list())
    for (const auto& [name, child] : impl_->children) nodes.emplace_back(child);
  return nodes;
}

std::vector<std::string> ConfigNode::keys() const {
  std::vector<std::string> keys;
  if (is_map())
    for (const auto& [name, child] : impl_->children) keys.push_back(name);
  return keys;
}

bool ConfigNode::as_bool() const {
  const auto& text = impl_->scalar;
  if (impl_->kind == Kind::kScalar && !impl_->quoted) {
    if (text == "true" || text == "True" || text == "yes" || text == "on") return true;
    if (text == "false" || text == "False" || text == "no" || text == "off") return false;
  }
  fail("expected true or false, got " + shown(*impl_));
}

int64_t ConfigNode::as_int() const {
  const auto& text = impl_->scalar;
  int64_t value = 0;
  const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (impl_->kind != Kind::kScalar || impl_->quoted || error != std::errc() ||
      stop != text.data() + text.size())
    fail("expected an integer, got " + shown(*impl_));
  return value;
}

double ConfigNode::as_double() const {
  const auto& text = impl_->scalar;
  double value = 0.0;
  const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (impl_->kind != Kind::kScalar || impl_->quoted || error != std::errc() ||
      stop != text.data() + text.size() || !std::isfinite(value))
    fail("expected a number, got " + shown(*impl_));
  return value;
}

std::string ConfigNode::as_string() const {
  if (impl_->kind != Kind::kScalar) fail("expected a string, got " + shown(*impl_));
  return impl_->scalar;
}

std::string ConfigNode::where() const {
  return impl_->source + ": " + (impl_->path.empty() ? "<recipe>" : impl_->path);
}

void ConfigNode::fail(const std::string& message) const {
  throw ConfigError(where() + ": " + message);
}

std::string ConfigNode::to_yaml() const {
  YAML::Emitter out;
  emit(*impl_, out);
  return out.c_str();
}

void throw_problems(const std::vector<std::string>& problems) {
  if (problems.empty()) return;
  std::string all;
  for (const auto& problem : problems) all += (all.empty() ? "" : "\n") + problem;
  throw ConfigError(all);
}

// ---- StrictReader ----

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
    auto empty = std::make_shared<ConfigNode::Impl>();
    const auto parent = level.node.where();
    const auto at = parent.rfind(": ");
    empty->source = parent.substr(0, at);
    const auto path = parent.substr(at + 2);
    empty->path = path == "<recipe>" ? name : path + "." + name;
    node = ConfigNode(empty);
  }
  levels_.push_back({node, {}});
}

void StrictReader::close_level() {
  const auto& level = levels_.back();
  for (const auto& key : level.node.keys()) {
    if (std::find(level.known.begin(), level.known.end(), key) != level.known.end()) continue;
    std::string message = level.node.at(key).where() + ": unknown key";
    const auto nearest = nearest_name(key, level.known);
    if (!nearest.empty()) {
      message += "; did you mean \"" + nearest + "\"?";
    } else {
      message += " (known:";
      for (const auto& each : level.known) message += " " + each;
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

// ---- description ----

namespace {

std::string yaml_scalar(const std::string& text) {
  YAML::Emitter out;
  static const std::vector<std::string> words = {"true", "false", "yes",  "no", "on",
                                                 "off",  "null",  "none", "~"};
  double number = 0.0;
  const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  const bool looks_typed = (error == std::errc() && stop == text.data() + text.size()) ||
                           std::find(words.begin(), words.end(), text) != words.end();
  if (looks_typed || text.empty()) out << YAML::DoubleQuoted;
  out << YAML::Flow << text;
  return out.c_str();
}

std::string number_text(double value) {
  char buffer[32];
  const auto result = std::to_chars(buffer, buffer + sizeof buffer, value);
  std::string text(buffer, result.ptr);
  if (text.find_first_of(".en") == std::string::npos) text += ".0";
  return text;
}

template <typename Values, typename Text>
std::string list_text(const Values& values, Text text) {
  std::string all = "[";
  for (const auto& value : values) all += (all.size() > 1 ? ", " : "") + text(value);
  return all + "]";
}

/// Collects the keys with their values.
class Describer final : public FieldVisitor {
 public:
  void field(const char* name, bool& value, const char* help) override {
    add(name, "true or false", value ? "true" : "false", help);
  }
  void field(const char* name, int64_t& value, const char* help) override {
    add(name, "integer", std::to_string(value), help);
  }
  void field(const char* name, double& value, const char* help) override {
    add(name, "number", number_text(value), help);
  }
  void field(const char* name, std::string& value, const char* help) override {
    add(name, "string", yaml_scalar(value), help);
  }
  void field(const char* name, std::optional<int64_t>& value, const char* help) override {
    add(name, "integer or null", value ? std::to_string(*value) : "null", help);
  }
  void field(const char* name, std::optional<double>& value, const char* help) override {
    add(name, "number or null", value ? number_text(*value) : "null", help);
  }
  void field(const char* name, std::optional<std::string>& value, const char* help) override {
    add(name, "string or null", value ? yaml_scalar(*value) : "null", help);
  }
  void field(const char* name, std::vector<std::string>& value, const char* help) override {
    add(name, "list of strings", list_text(value, yaml_scalar), help);
  }
  void field(const char* name, std::vector<double>& value, const char* help) override {
    add(name, "list of numbers", list_text(value, number_text), help);
  }
  void field(const char* name, std::vector<int64_t>& value, const char* help) override {
    add(name, "list of integers",
        list_text(value, [](int64_t each) { return std::to_string(each); }), help);
  }
  void field(const char* name, std::map<std::string, std::string>& value,
             const char* help) override {
    std::string all = "{";
    for (const auto& [key, text] : value)
      all += (all.size() > 1 ? ", " : "") + yaml_scalar(key) + ": " + yaml_scalar(text);
    add(name, "map of strings", all + "}", help);
  }
  void choice(const char* name, std::string& value, const std::vector<std::string>& allowed,
              const char* help) override {
    std::string type = "one of";
    for (const auto& each : allowed) type += (&each == &allowed.front() ? " " : " | ") + each;
    add(name, type, yaml_scalar(value), help);
  }
  void component(const char* name, std::optional<ConfigNode>& value,
                 const ComponentRegistry& registry, const char* help) override {
    add(name, registry.kind(), value ? resolved(*value, registry) : "null", help);
  }
  void components(const char* name, std::vector<ConfigNode>& value,
                  const ComponentRegistry& registry, const char* help) override {
    add(name, "list of " + registry.kind() + "s",
        list_text(value, [&](const ConfigNode& node) { return resolved(node, registry); }), help);
  }
  void required(const char* name) override {
    for (auto& each : fields_)
      if (each.name == prefix_ + name &&
          (each.default_value == "\"\"" || each.default_value == "null" ||
           each.default_value == "[]"))
        each.default_value = "required";
  }
  void require(bool, const char*, const std::string&) override {}
  std::vector<FieldInfo> take() { return std::move(fields_); }

 protected:
  void begin_section(const char* name, const char*) override {
    lengths_.push_back(prefix_.size());
    prefix_ += std::string(name) + ".";
  }
  void end_section() override {
    prefix_.resize(lengths_.back());
    lengths_.pop_back();
  }

 private:
  static std::string resolved(const ConfigNode& node, const ComponentRegistry& registry) {
    std::string all = "{type: " + registry.name_of(node);
    for (const auto& each : registry.resolve(node))
      all += ", " + each.name + ": " + each.default_value;
    return all + "}";
  }
  void add(const char* name, std::string type, std::string value, const char* help) {
    fields_.push_back({prefix_ + name, std::move(type), std::move(value), help});
  }
  std::vector<FieldInfo> fields_;
  std::string prefix_;
  std::vector<size_t> lengths_;
};

}  // namespace

std::vector<FieldInfo> collect_fields(void (*visit)(FieldVisitor&, const void*),
                                      const void* config) {
  Describer describer;
  visit(describer, config);
  return describer.take();
}

}  // namespace detail

std::string fields_to_yaml(const std::vector<FieldInfo>& fields, int indent) {
  std::string out;
  std::vector<std::string> open;
  for (const auto& field : fields) {
    std::vector<std::string> parts;
    size_t at = 0;
    for (size_t dot; (dot = field.name.find('.', at)) != std::string::npos; at = dot + 1)
      parts.push_back(field.name.substr(at, dot - at));
    size_t common = 0;
    while (common < parts.size() && common < open.size() && parts[common] == open[common]) ++common;
    for (size_t i = common; i < parts.size(); ++i)
      out += std::string(indent + 2 * i, ' ') + parts[i] + ":\n";
    open = parts;
    out += std::string(indent + 2 * parts.size(), ' ') + field.name.substr(at) + ": " +
           field.default_value + "\n";
  }
  return out;
}

}  // namespace meed
