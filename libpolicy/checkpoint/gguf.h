#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace meed {

/// A GGUF file: typed keys, and tensors dequantised on demand (every type ggml dequantises).
class GgufFile {
 public:
  /// Throws DataError naming the file and what is wrong.
  explicit GgufFile(const std::filesystem::path& path);
  ~GgufFile();

  bool has(const std::string& key) const;
  std::optional<std::string> string(const std::string& key) const;
  std::optional<int64_t> integer(const std::string& key) const;
  std::optional<double> number(const std::string& key) const;
  std::optional<bool> boolean(const std::string& key) const;
  std::vector<std::string> strings(const std::string& key) const;  ///< Empty if absent. Throws DataError on another type.
  std::vector<double> numbers(const std::string& key) const;

  std::vector<std::string> tensor_names() const;
  bool has_tensor(const std::string& name) const;
  /// In row-major order (GGUF's reversed). Throws DataError naming the tensor if it is missing.
  std::vector<int64_t> shape(const std::string& name) const;
  /// float32, of that shape.
  at::Tensor load(const std::string& name) const;
  const std::string& path() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace meed
