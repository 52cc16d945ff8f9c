#pragma once

#include <string>
#include <utility>
#include <vector>

#include "libpolicy/core/registry.h"

namespace meed::cli {

/// A registry under the name that `meed list` knows it by.
struct NamedRegistry {
  std::string name;
  const ComponentRegistry* registry;
};

/// Everything that registers components, in the order of cli.md.
std::vector<NamedRegistry> registries();

/// Sections of a recipe with their keys: run, model, lora, monitors, rollout, optim.
std::vector<std::pair<std::string, std::vector<FieldInfo>>> recipe_sections();

}  // namespace meed::cli
