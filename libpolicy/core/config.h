#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace meed {

class ComponentRegistry;

/// A node of a parsed recipe. Knows where it came from, so that errors can say
/// `grpo.yaml:14:3: algorithm.beta: ...`. A cheap handle; the tree itself never changes.
class ConfigNode {
 public:
  ConfigNode();  ///< An empty map from nowhere.
  /// Throws ConfigError with line and column on a syntax error, a duplicate key, or absurd nesting.
  static ConfigNode parse_file(const std::filesystem::path& path);
  static ConfigNode parse_string(const std::string& yaml, const std::string& name = "<string>");

  /// The tree with `key=value` settings applied: "optim.learning_rate=1e-5", "rewards[0].weight=2".
  /// The value is YAML. Throws ConfigError that lists every setting it cannot apply.
  ConfigNode with_overrides(const std::vector<std::string>& overrides) const;

  /// The tree with the entries of `settings`, a map from dotted keys to values, applied likewise.
  ConfigNode with_settings(const ConfigNode& settings) const;
  /// The tree with every scalar passed through `edit`; one that changes counts as unquoted.
  ConfigNode with_scalars(const std::function<std::string(const std::string&)>& edit) const;

  /// The map with only (keep) or without the keys named.
  ConfigNode with_keys(const std::vector<std::string>& keys, bool keep) const;
  /// Keys that with_keys left out: somebody else reads them, so they are known.
  const std::vector<std::string>& keys_elsewhere() const;
  /// The empty map that stands for a key which is not there, with this node's place.
  ConfigNode absent(const std::string& key) const;
  /// The map with `path` ("run.seed") set where it is absent.
  ConfigNode with_default(const std::string& path, const ConfigNode& value) const;
  ConfigNode with_default(const std::string& path, const std::string& value) const;

  bool is_map() const;
  bool is_list() const;
  bool is_null() const;
  bool has(const std::string& key) const;
  ConfigNode at(const std::string& key) const;  ///< Throws ConfigError if absent.
  std::vector<ConfigNode> items() const;        ///< Elements of a list.
  std::vector<std::string> keys() const;        ///< Keys of a map, in file order.

  bool as_bool() const;
  int64_t as_int() const;
  double as_double() const;  ///< Finite.
  std::string as_string() const;

  /// "file:line:column: path.to.key", the prefix of every message about this node.
  std::string where() const;
  [[noreturn]] void fail(const std::string& message) const;
  std::string to_yaml() const;

  struct Impl;
  explicit ConfigNode(std::shared_ptr<const Impl> impl) : impl_(std::move(impl)) {}

 private:
  std::shared_ptr<const Impl> impl_;
};

/// Visits the fields of a config struct. One `fields()` function per struct drives strict parsing,
/// the dump of the resolved recipe and the generated reference page.
class FieldVisitor {
 public:
  virtual ~FieldVisitor() = default;
  virtual void field(const char* name, bool& value, const char* help) = 0;
  virtual void field(const char* name, int64_t& value, const char* help) = 0;
  virtual void field(const char* name, double& value, const char* help) = 0;
  virtual void field(const char* name, std::string& value, const char* help) = 0;
  /// null, ~ or none: no value.
  virtual void field(const char* name, std::optional<int64_t>& value, const char* help) = 0;
  virtual void field(const char* name, std::optional<double>& value, const char* help) = 0;
  virtual void field(const char* name, std::optional<std::string>& value, const char* help) = 0;
  /// A list, or a single value.
  virtual void field(const char* name, std::vector<std::string>& value, const char* help) = 0;
  virtual void field(const char* name, std::vector<double>& value, const char* help) = 0;
  virtual void field(const char* name, std::vector<int64_t>& value, const char* help) = 0;
  virtual void field(const char* name, std::map<std::string, std::string>& value,
                     const char* help) = 0;
  /// One of `allowed`.
  virtual void choice(const char* name, std::string& value, const std::vector<std::string>& allowed,
                      const char* help) = 0;
  /// A map whose `type` names a component of `registry`; checked, and kept as a node to build it
  /// from later.
  virtual void component(const char* name, std::optional<ConfigNode>& value,
                         const ComponentRegistry& registry, const char* help) = 0;
  virtual void components(const char* name, std::vector<ConfigNode>& value,
                          const ComponentRegistry& registry, const char* help) = 0;
  /// The field must be given.
  virtual void required(const char* name) = 0;
  /// A check that involves one or more fields; `problem` completes "<key> ...".
  virtual void require(bool ok, const char* name, const std::string& problem) = 0;

  /// A struct with a fields() of its own.
  template <typename Section>
  void section(const char* name, Section& value, const char* help) {
    begin_section(name, help);
    value.fields(*this);
    end_section();
  }

 protected:
  virtual void begin_section(const char* name, const char* help) = 0;
  virtual void end_section() = 0;
};

/// One key as a person reads of it; what `meed describe` prints.
struct FieldInfo {
  std::string name;           ///< "scheduler.warmup_steps" within its component
  std::string type;           ///< "integer", "one of a | b", "list of reward functions", ...
  std::string default_value;  ///< as YAML; "required" if it must be given
  std::string help;
};

namespace detail {

/// Reads a struct from a node and collects every problem instead of stopping at the first.
class StrictReader final : public FieldVisitor {
 public:
  /// `has_type`: the key "type" is the registry's.
  StrictReader(const ConfigNode& node, bool has_type);
  void field(const char* name, bool& value, const char* help) override;
  void field(const char* name, int64_t& value, const char* help) override;
  void field(const char* name, double& value, const char* help) override;
  void field(const char* name, std::string& value, const char* help) override;
  void field(const char* name, std::optional<int64_t>& value, const char* help) override;
  void field(const char* name, std::optional<double>& value, const char* help) override;
  void field(const char* name, std::optional<std::string>& value, const char* help) override;
  void field(const char* name, std::vector<std::string>& value, const char* help) override;
  void field(const char* name, std::vector<double>& value, const char* help) override;
  void field(const char* name, std::vector<int64_t>& value, const char* help) override;
  void field(const char* name, std::map<std::string, std::string>& value,
             const char* help) override;
  void choice(const char* name, std::string& value, const std::vector<std::string>& allowed,
              const char* help) override;
  void component(const char* name, std::optional<ConfigNode>& value,
                 const ComponentRegistry& registry, const char* help) override;
  void components(const char* name, std::vector<ConfigNode>& value,
                  const ComponentRegistry& registry, const char* help) override;
  void required(const char* name) override;
  void require(bool ok, const char* name, const std::string& problem) override;
  std::vector<std::string> finish();  ///< Adds the unknown keys; returns every problem.

 protected:
  void begin_section(const char* name, const char* help) override;
  void end_section() override;

 private:
  struct Level {
    ConfigNode node;
    std::vector<std::string> known;
  };
  template <typename Read>
  void read(const char* name, Read&& read_value);
  void check_component(const ConfigNode& node, const ComponentRegistry& registry);
  void close_level();
  std::vector<Level> levels_;
  std::vector<std::string> problems_;
  std::vector<std::string>
      broken_;  // where() of fields that could not be read: their require() is skipped
};

std::vector<FieldInfo> collect_fields(void (*visit)(FieldVisitor&, const void*),
                                      const void* config);

}  // namespace detail

/// Throws one ConfigError with all `problems`, a line each; returns if there are none.
void throw_problems(const std::vector<std::string>& problems);

/// Reads a config struct and appends what is wrong to `problems`. Unknown keys, wrong types and
/// failed checks are all found; keys that are absent keep their defaults.
template <typename Config>
Config read_config(const ConfigNode& node, std::vector<std::string>& problems,
                   bool has_type = true) {
  Config config;
  detail::StrictReader reader(node, has_type);
  config.fields(reader);
  for (auto& problem : reader.finish()) problems.push_back(std::move(problem));
  return config;
}

/// The same; throws one ConfigError that lists every problem.
template <typename Config>
Config read_config(const ConfigNode& node, bool has_type = true) {
  std::vector<std::string> problems;
  Config config = read_config<Config>(node, problems, has_type);
  throw_problems(problems);
  return config;
}

/// The keys of a config struct with the values it holds.
template <typename Config>
std::vector<FieldInfo> describe_config(Config config = {}) {
  return detail::collect_fields(
      [](FieldVisitor& visitor, const void* c) {
        const_cast<Config*>(static_cast<const Config*>(c))->fields(visitor);
      },
      &config);
}

/// The struct as YAML, every key with its value: the resolved recipe.
std::string fields_to_yaml(const std::vector<FieldInfo>& fields, int indent = 0);

}  // namespace meed
