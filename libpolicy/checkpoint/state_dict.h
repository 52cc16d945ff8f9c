#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <string>

namespace meed {

/// What a component needs to continue after a restart, by name. Nested by "prefix.name".
struct StateDict {
  std::map<std::string, at::Tensor> tensors;
  std::map<std::string, int64_t> integers;
  std::map<std::string, double> numbers;
  std::map<std::string, std::string> strings;

  bool empty() const {
    return tensors.empty() && integers.empty() && numbers.empty() && strings.empty();
  }
  /// Takes all of `inner` over as "prefix.name".
  void add(const std::string& prefix, const StateDict& inner);
  /// What stands under "prefix.", without the prefix; empty if there is none.
  StateDict under(const std::string& prefix) const;
};

/// The state of a component with save(StateDict&) and load(const StateDict&), nested under `prefix`.
template <typename Component>
void save_under(StateDict& state, const std::string& prefix, const Component& component) {
  StateDict inner;
  component.save(inner);
  state.add(prefix, inner);
}
/// A component that left nothing keeps what it has.
template <typename Component>
void load_under(const StateDict& state, const std::string& prefix, Component& component) {
  if (const auto inner = state.under(prefix); !inner.empty()) component.load(inner);
}

}  // namespace meed
