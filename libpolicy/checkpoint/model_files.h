#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

namespace meed {

/// The weights and the configuration of a model on disk, whatever the format. Tensor names and layouts are Hugging Face's.
class ModelFiles {
 public:
  virtual ~ModelFiles() = default;
  /// A Hugging Face folder (config.json, model.safetensors or shards with their index) or a .gguf file. Throws DataError.
  static std::unique_ptr<ModelFiles> open(const std::filesystem::path& path);

  /// config.json, or the same made from a GGUF header.
  virtual const std::string& config_json() const = 0;
  /// generation_config.json, "" if there is none.
  virtual const std::string& generation_config_json() const = 0;
  virtual std::vector<std::string> names() const = 0;
  virtual bool has(const std::string& name) const = 0;
  /// The name under which the files hold a parameter: a base model is stored without "model." or
  /// "transformer.". `name` itself where they hold neither.
  std::string stored_name(const std::string& name) const;
  /// Throws DataError naming the tensor if it is missing. Floating-point tensors come in `dtype`.
  virtual at::Tensor load(const std::string& name, at::ScalarType dtype) const = 0;
  /// "FILE: ", for messages.
  virtual std::string where() const = 0;
};

}  // namespace meed
