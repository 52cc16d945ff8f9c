#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <charconv>

#include "libpolicy/core/config.h"
#include "libpolicy/core/registry.h"

namespace meed {
namespace detail {

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
