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
};

}  // namespace meed
