#pragma once

#include <chrono>
#include <cstddef>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <string_view>

namespace meed {

/// The whole file. Throws DataError that names the path.
std::string read_file(const std::filesystem::path& path);

/// Writes beside the target, fsyncs and renames: a reader sees the old or the new file, never half.
/// Throws DataError (a full disk, for one) and leaves the old file.
void write_file_atomic(const std::filesystem::path& path, std::string_view bytes);

/// fsync of a file or folder that is already written.
void sync_path(const std::filesystem::path& path);

/// A file mapped read-only into memory.
class MappedFile {
 public:
  explicit MappedFile(const std::filesystem::path& path);  ///< Throws DataError.
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  std::span<const std::byte> bytes() const { return {data_, size_}; }

 private:
  const std::byte* data_ = nullptr;
  size_t size_ = 0;
};

/// The right to write into a folder, which one process of a machine has at a time, until it ends in
/// whatever way. Where the file system has no such locks (some network file systems) everybody gets
/// it.
class FolderLock {
 public:
  /// Makes the folder if absent, and waits up to `patience` while another process holds it.
  FolderLock(const std::filesystem::path& folder, std::chrono::milliseconds patience);
  ~FolderLock();  ///< Removes the folder if nothing was written.
  FolderLock(const FolderLock&) = delete;
  FolderLock& operator=(const FolderLock&) = delete;
  /// False: another process still writes there.
  bool held() const { return held_; }

 private:
  std::filesystem::path folder_;
  int fd_ = -1;
  bool held_ = true;
};

}  // namespace meed
