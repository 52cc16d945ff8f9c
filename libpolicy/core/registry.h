#pragma once

#include <cstdio>
#include <cstdlib>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "libpolicy/core/config.h"
#include "libpolicy/core/run_context.h"

namespace meed {

/// What every registry can say of its components without building one.
class ComponentRegistry {
 public:
  struct Info {
    std::string help;
    std::function<std::vector<FieldInfo>()> fields;  ///< keys with their defaults
    /// Problems of a node that should configure it.
    std::function<std::vector<std::string>(const ConfigNode&)> check;
    /// The node with every default filled in.
    std::function<std::vector<FieldInfo>(const ConfigNode&)> resolve;
    /// Config::kShapes where a component has it: the shapes of reward that it gives or takes.
    std::string shapes = {};
  };

  explicit ComponentRegistry(std::string kind) : kind_(std::move(kind)) {}
  const std::string& kind() const { return kind_; }  ///< "reward function", for messages
  std::vector<std::string> names() const;
  bool has(const std::string& name) const { return infos_.count(name) > 0; }
  const Info& info(const std::string& name) const { return infos_.at(name); }
  /// The name in `node.type`. Throws ConfigError for a missing or unknown one, with the nearest
  /// known name.
  std::string name_of(const ConfigNode& node) const;
  /// Problems of a node: a missing or unknown type, unknown keys, wrong values.
  std::vector<std::string> check(const ConfigNode& node) const;
  /// The node's keys with every default filled in, common ones last.
  std::vector<FieldInfo> resolve(const ConfigNode& node) const;

  /// Keys that every component of this registry takes beside its own (a reward's `weight`): a
  /// config struct.
  template <typename Common>
  void set_common();
  /// The common keys of a node.
  template <typename Common>
  Common read_common(const ConfigNode& node) const {
    return read_config<Common>(node.with_keys(common_keys_, /*keep=*/true), /*has_type=*/false);
  }
  /// Their names.
  const std::vector<std::string>& common_keys() const { return common_keys_; }
  std::vector<FieldInfo> common_fields() const {
    return common_ ? common_->fields() : std::vector<FieldInfo>{};
  }

 protected:
  void add_info(const std::string& name, Info info);
  ConfigNode own_keys(const ConfigNode& node) const {
    return node.with_keys(common_keys_, /*keep=*/false);
  }

 private:
  std::vector<std::string> common_keys_;
  std::optional<Info> common_;
  std::string kind_;
  std::map<std::string, Info> infos_;
};

/// Maps the `type:` of a recipe's component to the factory that builds it.
///
/// There is exactly one registry per interface, reached through a function that is defined in a
/// .cpp file
/// (`reward_functions()`, `datasets()`), so shared libraries share it.
template <typename Interface>
class Registry : public ComponentRegistry {
 public:
  using Factory = std::function<std::unique_ptr<Interface>(const ConfigNode&, RunContext&)>;
  using ComponentRegistry::ComponentRegistry;

  /// Returns true so that registration can initialise a namespace-scope constant.
  /// Aborts the program on a duplicate name: two files claim one name, a build mistake.
  bool add(const std::string& name, Info info, Factory factory) {
    add_info(name, std::move(info));
    factories_.emplace(name, std::move(factory));
    return true;
  }

  /// Builds the component that `node` describes; `node.type` names it. Throws ConfigError.
  std::unique_ptr<Interface> create(const ConfigNode& node, RunContext& context) const {
    return factories_.at(name_of(node))(own_keys(node), context);
  }

 private:
  std::map<std::string, Factory> factories_;
};

namespace detail {

template <typename Type, typename Config>
std::unique_ptr<Type> construct(const Config& config, RunContext& context) {
  if constexpr (std::is_constructible_v<Type, const Config&, RunContext&>)
    return std::make_unique<Type>(config, context);
  else
    return std::make_unique<Type>(config);
}

template <typename Config>
ComponentRegistry::Info component_info(std::string help, bool has_type = true) {
  std::string shapes;
  if constexpr (requires { Config::kShapes; }) shapes = Config::kShapes;
  return {std::move(help), [] { return describe_config<Config>(); },
          [has_type](const ConfigNode& node) {
            std::vector<std::string> problems;
            read_config<Config>(node, problems, has_type);
            return problems;
          },
          [has_type](const ConfigNode& node) {
            return describe_config<Config>(read_config<Config>(node, has_type));
          },
          std::move(shapes)};
}

}  // namespace detail

template <typename Common>
void ComponentRegistry::set_common() {
  common_ = detail::component_info<Common>("", /*has_type=*/false);
  // A section's fields are named "section.field"; its key is "section".
  for (const auto& field : common_->fields()) {
    auto key = field.name.substr(0, field.name.find('.'));
    if (common_keys_.empty() || common_keys_.back() != key) common_keys_.push_back(std::move(key));
  }
}

}  // namespace meed

/// Registers `Type(const Type::Config&)` or `Type(const Type::Config&, RunContext&)` under `name`
/// in the registry `registry()`. Write it once, at namespace scope, at the end of the component's
/// .cpp file.
#define MEED_REGISTER(registry, name, Type, help)                                                 \
  [[maybe_unused]] const bool registered_##Type = registry().add(                                 \
      name, ::meed::detail::component_info<Type::Config>(help),                                   \
      [](const ::meed::ConfigNode& node, ::meed::RunContext& context) {                           \
        return ::meed::detail::construct<Type>(::meed::read_config<Type::Config>(node), context); \
      })
