#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace meed {

/// HDF5 files that h5py reads and writes: tensors, lists of texts and text attributes, by path ("a"
/// or "group/a"). Tensors are float32, float64, int32, int64 or uint8 (kBool is stored as uint8) on
/// the CPU. Several threads may use files at the same time: the library's calls are taken one by
/// one.

/// A file opened for reading. Throws DataError, naming file and dataset, on anything unreadable.
class Hdf5Reader {
 public:
  explicit Hdf5Reader(const std::filesystem::path& path);
  ~Hdf5Reader();
  Hdf5Reader(const Hdf5Reader&) = delete;
  Hdf5Reader& operator=(const Hdf5Reader&) = delete;

  /// Paths of all datasets, sorted.
  std::vector<std::string> names() const;
  bool has(const std::string& name) const;
  /// Sizes of a dataset; the first is its number of rows.
  std::vector<int64_t> shape(const std::string& name) const;
  /// The whole dataset in its stored dtype.
  at::Tensor load(const std::string& name) const;
  /// Rows [first, first + count) of it, [count, ...].
  at::Tensor load_rows(const std::string& name, int64_t first, int64_t count) const;
  /// A one-dimensional dataset of texts, of fixed or variable length.
  std::vector<std::string> load_texts(const std::string& name) const;
  /// A text attribute of the file itself; nullopt if there is none.
  std::optional<std::string> attribute(const std::string& name) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// A file being written, under another name until commit(): a reader sees the old file or the whole
/// one. Without commit() the destructor removes what was written. Throws DataError (a full disk).
class Hdf5Writer {
 public:
  /// `compress`: datasets of append() are shuffled and deflated, as h5py's compression="gzip".
  explicit Hdf5Writer(const std::filesystem::path& path, bool compress = false);
  ~Hdf5Writer();
  Hdf5Writer(const Hdf5Writer&) = delete;
  Hdf5Writer& operator=(const Hdf5Writer&) = delete;

  /// A dataset of exactly this tensor; groups on its path are made.
  void write(const std::string& name, const at::Tensor& tensor);
  void write_texts(const std::string& name, const std::vector<std::string>& texts);
  /// Adds rows [n, ...] to a dataset that grows; the first call makes it. Later calls must agree in
  /// dtype and in all sizes but the first.
  void append(const std::string& name, const at::Tensor& rows);
  void set_attribute(const std::string& name, const std::string& value);
  /// Syncs and renames into place; nothing may be written afterwards.
  void commit();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace meed
