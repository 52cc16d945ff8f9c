#include "libpolicy/core/config.h"

#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <charconv>
#include <cmath>

#include "libpolicy/core/error.h"
#include "libpolicy/core/files.h"

namespace meed {

struct ConfigNode::Impl {
  enum class Kind { kNull, kScalar, kList, kMap };
  Kind kind = Kind::kMap;
  std::string scalar;
  bool quoted = false;
  std::string source = "<none>";  // "grpo.yaml:14:3" or "command line"
  std::string path;               // "algorithm.beta"
  std::vector<std::pair<std::string, std::shared_ptr<const Impl>>>
      children;                             // list items have empty keys
  std::vector<std::string> keys_elsewhere;  // taken out by with_keys

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

ConfigNode ConfigNode::with_settings(const ConfigNode& settings) const {
  Node tree = impl_;
  std::vector<std::string> problems;
  for (const auto& [key, value] : settings.impl_->children) {
    const auto steps = split_path(key);
    try {
      if (steps.empty()) throw ConfigError("not a key such as optim.learning_rate");
      tree = set_value(tree, steps, value);
    } catch (const ConfigError& e) {
      problems.push_back(ConfigNode(value).where() + ": " + e.what());
    }
  }
  throw_problems(problems);
  return ConfigNode(tree);
}

ConfigNode ConfigNode::with_scalars(
    const std::function<std::string(const std::string&)>& edit) const {
  auto copy = std::make_shared<Impl>(*impl_);
  if (copy->kind == Kind::kScalar) {
    if (auto edited = edit(copy->scalar); edited != copy->scalar) {
      copy->scalar = std::move(edited);
      copy->quoted = false;
    }
  }
  for (auto& [name, child] : copy->children) child = ConfigNode(child).with_scalars(edit).impl_;
  return ConfigNode(copy);
}

ConfigNode ConfigNode::with_keys(const std::vector<std::string>& keys, bool keep) const {
  auto copy = std::make_shared<Impl>(*impl_);
  std::erase_if(copy->children, [&](const auto& child) {
    return (std::find(keys.begin(), keys.end(), child.first) != keys.end()) != keep;
  });
  if (!keep) copy->keys_elsewhere = keys;
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

ConfigNode ConfigNode::absent(const std::string& key) const {
  auto empty = std::make_shared<Impl>();
  empty->source = impl_->source;
  empty->path = child_path(impl_->path, key);
  return ConfigNode(empty);
}

const std::vector<std::string>& ConfigNode::keys_elsewhere() const { return impl_->keys_elsewhere; }

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

}  // namespace meed
