#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "libpolicy/core/files.h"

namespace meed {

/// A .safetensors file, mapped; tensors are copied out when asked for. The header is checked whole before anything is used.
class SafetensorsFile {
 public:
  /// Throws DataError naming the file, the tensor and what is wrong: truncated, an absurd header, overlapping or missing bytes.
  explicit SafetensorsFile(const std::filesystem::path& path);

  const std::vector<std::string>& names() const { return names_; }
  bool has(const std::string& name) const { return entries_.count(name) > 0; }
  /// A copy in the stored dtype. Throws DataError if absent.
  at::Tensor load(const std::string& name) const;
  const std::map<std::string, std::string>& metadata() const { return metadata_; }

 private:
  struct Entry {
    at::ScalarType dtype;
    std::vector<int64_t> shape;
    size_t begin, end;
  };
  std::string path_;
  MappedFile file_;
  size_t data_offset_ = 0;
  std::vector<std::string> names_;
  std::map<std::string, Entry> entries_;
  std::map<std::string, std::string> metadata_;
};

using NamedTensors = std::vector<std::pair<std::string, at::Tensor>>;

/// Writes beside the target, syncs and renames. Throws DataError (a full disk) and leaves no half file.
void write_safetensors(const std::filesystem::path& path, const NamedTensors& tensors,
                       const std::map<std::string, std::string>& metadata = {{"format", "pt"}});

/// model.safetensors, or shards of at most `max_shard_bytes` with model.safetensors.index.json.
void write_sharded_safetensors(const std::filesystem::path& folder, const NamedTensors& tensors, int64_t max_shard_bytes);

}  // namespace meed
