#include "libpolicy/core/hdf5_file.h"

#include <ATen/ATen.h>
#include <hdf5.h>

#include <algorithm>
#include <map>
#include <mutex>

#include "libpolicy/core/error.h"
#include "libpolicy/core/files.h"

namespace meed {
namespace {

/// Debian's library is built without its own lock.
std::unique_lock<std::mutex> one_by_one() {
  static std::mutex mutex;
  std::unique_lock lock(mutex);
  [[maybe_unused]] static const auto silent = H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);
  return lock;
}

/// What the library says about the call that failed: its innermost message.
std::string last_error() {
  std::string text;
  H5Ewalk2(
      H5E_DEFAULT, H5E_WALK_UPWARD,
      [](unsigned, const H5E_error2_t* error, void* out) -> herr_t {
        auto& message = *static_cast<std::string*>(out);
        if (message.empty() && error->desc != nullptr) message = error->desc;
        return 0;
      },
      &text);
  return text.empty() ? "unknown error" : text;
}

/// An identifier of the library, closed at the end of its scope.
class Handle {
 public:
  using Close = herr_t (*)(hid_t);
  Handle() = default;
  Handle(hid_t id, Close close) : id_(id), close_(close) {}
  Handle(Handle&& other) noexcept
      : id_(std::exchange(other.id_, H5I_INVALID_HID)), close_(other.close_) {}
  Handle& operator=(Handle&& other) noexcept {
    std::swap(id_, other.id_);
    std::swap(close_, other.close_);
    return *this;
  }
  ~Handle() { close(); }
  bool close() { return id_ < 0 || close_(std::exchange(id_, H5I_INVALID_HID)) >= 0; }
  hid_t get() const { return id_; }

 private:
  hid_t id_ = H5I_INVALID_HID;
  Close close_ = nullptr;
};

[[noreturn]] void fail_in(const std::string& file, const std::string& dataset,
                          const std::string& what) {
  throw DataError(file + ": " + (dataset.empty() ? "" : "\"" + dataset + "\": ") + what);
}

hid_t type_of(at::ScalarType dtype) {
  if (dtype == at::kFloat) return H5T_NATIVE_FLOAT;
  if (dtype == at::kDouble) return H5T_NATIVE_DOUBLE;
  if (dtype == at::kInt) return H5T_NATIVE_INT32;
  if (dtype == at::kLong) return H5T_NATIVE_INT64;
  MEED_CHECK(dtype == at::kByte, std::string("HDF5 files hold no ") + at::toString(dtype));
  return H5T_NATIVE_UINT8;
}

at::Tensor storable(const at::Tensor& tensor) {
  const auto values = tensor.detach().to(at::kCPU).contiguous();
  return values.scalar_type() == at::kBool ? values.to(at::kByte) : values;
}

std::vector<hsize_t> sizes_of(const at::Tensor& tensor) {
  return {tensor.sizes().begin(), tensor.sizes().end()};
}

Handle variable_text() {
  Handle type(H5Tcopy(H5T_C_S1), H5Tclose);
  H5Tset_size(type.get(), H5T_VARIABLE);
  H5Tset_cset(type.get(), H5T_CSET_UTF8);
  return type;
}

}  // namespace

struct Hdf5Reader::Impl {
  std::string path;
  Handle file;

  [[noreturn]] void fail(const std::string& name, const std::string& what) const {
    fail_in(path, name, what);
  }
  /// H5Lexists wants every group on the way to be there.
  bool has(const std::string& name) const {
    for (size_t end = name.find('/'); end != std::string::npos; end = name.find('/', end + 1))
      if (end > 0 && H5Lexists(file.get(), name.substr(0, end).c_str(), H5P_DEFAULT) <= 0)
        return false;
    return !name.empty() && H5Lexists(file.get(), name.c_str(), H5P_DEFAULT) > 0;
  }
  Handle dataset(const std::string& name) const {
    if (!has(name)) fail(name, "is missing");
    Handle set(H5Dopen2(file.get(), name.c_str(), H5P_DEFAULT), H5Dclose);
    if (set.get() < 0) fail(name, "cannot be opened: " + last_error());
    return set;
  }
  std::vector<hsize_t> shape(const Handle& set) const {
    const Handle space(H5Dget_space(set.get()), H5Sclose);
    std::vector<hsize_t> sizes(
        static_cast<size_t>(std::max(0, H5Sget_simple_extent_ndims(space.get()))));
    H5Sget_simple_extent_dims(space.get(), sizes.data(), nullptr);
    return sizes;
  }
  at::ScalarType dtype(const std::string& name, const Handle& set) const {
    const Handle type(H5Dget_type(set.get()), H5Tclose);
    const size_t size = H5Tget_size(type.get());
    const auto kind = H5Tget_class(type.get());
    if (kind == H5T_FLOAT) return size > 4 ? at::kDouble : at::kFloat;
    if (kind == H5T_ENUM) return at::kByte;  // h5py's bool
    if (kind != H5T_INTEGER) fail(name, "holds no numbers");
    if (size > 4) return at::kLong;
    if (size == 1 && H5Tget_sign(type.get()) == H5T_SGN_NONE) return at::kByte;
    return size == 4 && H5Tget_sign(type.get()) == H5T_SGN_NONE ? at::kLong : at::kInt;
  }
  at::Tensor read(const std::string& name, const Handle& set, std::vector<hsize_t> sizes,
                  hsize_t first, bool whole) const {
    const auto kind = dtype(name, set);
    const auto tensor =
        at::empty(std::vector<int64_t>(sizes.begin(), sizes.end()), at::TensorOptions(kind));
    if (tensor.numel() == 0) return tensor;
    const Handle stored(H5Dget_type(set.get()), H5Tclose);
    const hid_t type = H5Tget_class(stored.get()) == H5T_ENUM ? stored.get() : type_of(kind);
    Handle memory, space;
    if (!whole) {
      std::vector<hsize_t> start(sizes.size(), 0);
      start[0] = first;
      space = Handle(H5Dget_space(set.get()), H5Sclose);
      H5Sselect_hyperslab(space.get(), H5S_SELECT_SET, start.data(), nullptr, sizes.data(),
                          nullptr);
      memory =
          Handle(H5Screate_simple(static_cast<int>(sizes.size()), sizes.data(), nullptr), H5Sclose);
    }
    if (H5Dread(set.get(), type, whole ? H5S_ALL : memory.get(), whole ? H5S_ALL : space.get(),
                H5P_DEFAULT, tensor.data_ptr()) < 0)
      fail(name, "cannot be read: " + last_error());
    return tensor;
  }
  /// Texts of a dataset or of an attribute, read by `read(memory type, buffer)`.
  template <typename Read>
  std::vector<std::string> texts(const Handle& type, const Handle& space, const Read& read,
                                 const std::string& name) const {
    if (H5Tget_class(type.get()) != H5T_STRING) fail(name, "holds no texts");
    const auto count = static_cast<size_t>(H5Sget_simple_extent_npoints(space.get()));
    std::vector<std::string> result;
    if (count == 0) return result;
    if (H5Tis_variable_str(type.get()) > 0) {
      const Handle memory(H5Tcopy(type.get()), H5Tclose);
      std::vector<char*> pointers(count, nullptr);
      if (read(memory.get(), pointers.data()) < 0) fail(name, "cannot be read: " + last_error());
      for (const char* pointer : pointers) result.emplace_back(pointer == nullptr ? "" : pointer);
      H5Dvlen_reclaim(memory.get(), space.get(), H5P_DEFAULT, pointers.data());
      return result;
    }
    const size_t width = H5Tget_size(type.get());
    std::string bytes(count * width, '\0');
    if (read(type.get(), bytes.data()) < 0) fail(name, "cannot be read: " + last_error());
    for (size_t i = 0; i < count; ++i) {
      auto text = bytes.substr(i * width, width);
      const auto end = text.find('\0');
      result.push_back(end == std::string::npos ? text : text.substr(0, end));
    }
    return result;
  }
};

Hdf5Reader::Hdf5Reader(const std::filesystem::path& path) : impl_(std::make_unique<Impl>()) {
  const auto lock = one_by_one();
  impl_->path = path.string();
  if (!std::filesystem::is_regular_file(path)) impl_->fail("", "no such file");
  if (H5Fis_hdf5(path.c_str()) <= 0) impl_->fail("", "is no HDF5 file, or is cut short");
  impl_->file = Handle(H5Fopen(path.c_str(), H5F_ACC_RDONLY, H5P_DEFAULT), H5Fclose);
  if (impl_->file.get() < 0) impl_->fail("", "cannot be opened: " + last_error());
}

Hdf5Reader::~Hdf5Reader() {
  const auto lock = one_by_one();
  impl_.reset();
}

std::vector<std::string> Hdf5Reader::names() const {
  const auto lock = one_by_one();
  std::vector<std::string> names;
  H5Ovisit(
      impl_->file.get(), H5_INDEX_NAME, H5_ITER_INC,
      [](hid_t, const char* name, const H5O_info_t* info, void* out) -> herr_t {
        if (info->type == H5O_TYPE_DATASET)
          static_cast<std::vector<std::string>*>(out)->emplace_back(name);
        return 0;
      },
      &names);
  std::sort(names.begin(), names.end());
  return names;
}

bool Hdf5Reader::has(const std::string& name) const {
  const auto lock = one_by_one();
  return impl_->has(name);
}

std::vector<int64_t> Hdf5Reader::shape(const std::string& name) const {
  const auto lock = one_by_one();
  const auto sizes = impl_->shape(impl_->dataset(name));
  return {sizes.begin(), sizes.end()};
}

at::Tensor Hdf5Reader::load(const std::string& name) const {
  const auto lock = one_by_one();
  const auto set = impl_->dataset(name);
  return impl_->read(name, set, impl_->shape(set), 0, /*whole=*/true);
}

at::Tensor Hdf5Reader::load_rows(const std::string& name, int64_t first, int64_t count) const {
  const auto lock = one_by_one();
  const auto set = impl_->dataset(name);
  auto sizes = impl_->shape(set);
  if (sizes.empty() || first < 0 || count < 0 || first + count > static_cast<int64_t>(sizes[0]))
    impl_->fail(name, "has " + std::to_string(sizes.empty() ? 0 : sizes[0]) + " rows, not rows " +
                          std::to_string(first) + " to " + std::to_string(first + count));
  sizes[0] = static_cast<hsize_t>(count);
  return impl_->read(name, set, sizes, static_cast<hsize_t>(first), /*whole=*/false);
}

std::vector<std::string> Hdf5Reader::load_texts(const std::string& name) const {
  const auto lock = one_by_one();
  const auto set = impl_->dataset(name);
  return impl_->texts(
      Handle(H5Dget_type(set.get()), H5Tclose), Handle(H5Dget_space(set.get()), H5Sclose),
      [&](hid_t type, void* out) {
        return H5Dread(set.get(), type, H5S_ALL, H5S_ALL, H5P_DEFAULT, out);
      },
      name);
}

std::optional<std::string> Hdf5Reader::attribute(const std::string& name) const {
  const auto lock = one_by_one();
  if (H5Aexists(impl_->file.get(), name.c_str()) <= 0) return std::nullopt;
  const Handle attribute(H5Aopen(impl_->file.get(), name.c_str(), H5P_DEFAULT), H5Aclose);
  const auto texts = impl_->texts(
      Handle(H5Aget_type(attribute.get()), H5Tclose),
      Handle(H5Aget_space(attribute.get()), H5Sclose),
      [&](hid_t type, void* out) { return H5Aread(attribute.get(), type, out); }, name);
  return texts.empty() ? std::string() : texts[0];
}

struct Hdf5Writer::Impl {
  std::filesystem::path path, temporary;
  Handle file;
  std::map<std::string, Handle> growing;  ///< datasets of append(); closed before the file
  bool committed = false, compress = false;

  [[noreturn]] void fail(const std::string& name, const std::string& what) const {
    fail_in(temporary.string(), name, what + ": " + last_error());
  }
  /// A dataset that grows is stored in chunks.
  Handle create(const std::string& name, hid_t type, const std::vector<hsize_t>& sizes,
                bool grows) const {
    MEED_CHECK(file.get() >= 0, "an HDF5 file that is committed cannot be written");
    auto limits = sizes;
    const Handle creation(H5Pcreate(H5P_DATASET_CREATE), H5Pclose);
    if (grows) {
      limits[0] = H5S_UNLIMITED;
      constexpr hsize_t kChunkNumbers = 16384;  // 64 KiB of float32, well inside the chunk cache
      auto chunk = sizes;
      hsize_t row = 1;
      for (size_t d = 1; d < sizes.size(); ++d) row *= chunk[d] = std::max<hsize_t>(sizes[d], 1);
      chunk[0] = std::max<hsize_t>(1, kChunkNumbers / row);
      H5Pset_chunk(creation.get(), static_cast<int>(chunk.size()), chunk.data());
      constexpr unsigned kDeflateLevel = 4;  // h5py's default
      if (compress) {
        H5Pset_shuffle(creation.get());
        H5Pset_deflate(creation.get(), kDeflateLevel);
      }
    }
    const Handle links(H5Pcreate(H5P_LINK_CREATE), H5Pclose);
    H5Pset_create_intermediate_group(links.get(), 1);
    const Handle space(sizes.empty() ? H5Screate(H5S_SCALAR)
                                     : H5Screate_simple(static_cast<int>(sizes.size()),
                                                        sizes.data(), limits.data()),
                       H5Sclose);
    Handle set(H5Dcreate2(file.get(), name.c_str(), type, space.get(), links.get(), creation.get(),
                          H5P_DEFAULT),
               H5Dclose);
    if (set.get() < 0) fail(name, "cannot be made");
    return set;
  }
};

Hdf5Writer::Hdf5Writer(const std::filesystem::path& path, bool compress)
    : impl_(std::make_unique<Impl>()) {
  const auto lock = one_by_one();
  impl_->compress = compress;
  impl_->path = path;
  impl_->temporary = path.string() + ".tmp";
  impl_->file = Handle(H5Fcreate(impl_->temporary.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT),
                       H5Fclose);
  if (impl_->file.get() < 0) impl_->fail("", "cannot be made");
}

Hdf5Writer::~Hdf5Writer() {
  const auto lock = one_by_one();
  const bool committed = impl_->committed;
  const auto temporary = impl_->temporary;
  impl_.reset();
  std::error_code ignored;
  if (!committed) std::filesystem::remove(temporary, ignored);
}

void Hdf5Writer::write(const std::string& name, const at::Tensor& tensor) {
  const auto values = storable(tensor);
  const auto lock = one_by_one();
  const hid_t type = type_of(values.scalar_type());
  const auto set = impl_->create(name, type, sizes_of(values), /*grows=*/false);
  if (values.numel() > 0 &&
      H5Dwrite(set.get(), type, H5S_ALL, H5S_ALL, H5P_DEFAULT, values.const_data_ptr()) < 0)
    impl_->fail(name, "cannot be written");
}

void Hdf5Writer::write_texts(const std::string& name, const std::vector<std::string>& texts) {
  const auto lock = one_by_one();
  const auto type = variable_text();
  const auto set = impl_->create(name, type.get(), {texts.size()}, /*grows=*/false);
  std::vector<const char*> pointers;
  for (const auto& text : texts) pointers.push_back(text.c_str());
  if (!texts.empty() &&
      H5Dwrite(set.get(), type.get(), H5S_ALL, H5S_ALL, H5P_DEFAULT, pointers.data()) < 0)
    impl_->fail(name, "cannot be written");
}

void Hdf5Writer::append(const std::string& name, const at::Tensor& rows) {
  const auto values = storable(rows);
  MEED_CHECK(values.dim() > 0, "append: rows of at least one dimension");
  const auto lock = one_by_one();
  const hid_t type = type_of(values.scalar_type());
  auto sizes = sizes_of(values);
  if (impl_->growing.count(name) == 0) {
    auto none = sizes;
    none[0] = 0;
    impl_->growing[name] = impl_->create(name, type, none, /*grows=*/true);
  }
  const auto& set = impl_->growing.at(name);
  std::vector<hsize_t> before(sizes.size());
  {
    const Handle space(H5Dget_space(set.get()), H5Sclose);
    const Handle stored(H5Dget_type(set.get()), H5Tclose);
    MEED_CHECK(
        H5Sget_simple_extent_ndims(space.get()) == values.dim() && H5Tequal(stored.get(), type) > 0,
        name + ": appended rows differ in dimensions or dtype");
    H5Sget_simple_extent_dims(space.get(), before.data(), nullptr);
  }
  MEED_CHECK(std::equal(before.begin() + 1, before.end(), sizes.begin() + 1),
             name + ": appended rows differ in shape");
  if (values.numel() == 0) return;
  auto after = before, start = std::vector<hsize_t>(sizes.size(), 0);
  after[0] += sizes[0];
  start[0] = before[0];
  if (H5Dset_extent(set.get(), after.data()) < 0) impl_->fail(name, "cannot grow");
  const Handle space(H5Dget_space(set.get()), H5Sclose);
  H5Sselect_hyperslab(space.get(), H5S_SELECT_SET, start.data(), nullptr, sizes.data(), nullptr);
  const Handle memory(H5Screate_simple(static_cast<int>(sizes.size()), sizes.data(), nullptr),
                      H5Sclose);
  if (H5Dwrite(set.get(), type, memory.get(), space.get(), H5P_DEFAULT, values.const_data_ptr()) <
      0)
    impl_->fail(name, "cannot be written");
}

void Hdf5Writer::set_attribute(const std::string& name, const std::string& value) {
  const auto lock = one_by_one();
  MEED_CHECK(impl_->file.get() >= 0, "an HDF5 file that is committed cannot be written");
  const auto type = variable_text();
  const Handle space(H5Screate(H5S_SCALAR), H5Sclose);
  if (H5Aexists(impl_->file.get(), name.c_str()) > 0) H5Adelete(impl_->file.get(), name.c_str());
  const Handle attribute(H5Acreate2(impl_->file.get(), name.c_str(), type.get(), space.get(),
                                    H5P_DEFAULT, H5P_DEFAULT),
                         H5Aclose);
  const char* pointer = value.c_str();
  if (attribute.get() < 0 || H5Awrite(attribute.get(), type.get(), &pointer) < 0)
    impl_->fail(name, "attribute cannot be written");
}

void Hdf5Writer::commit() {
  const auto lock = one_by_one();
  MEED_CHECK(!impl_->committed, "an HDF5 file is committed once");
  impl_->growing.clear();
  if (H5Fflush(impl_->file.get(), H5F_SCOPE_GLOBAL) < 0 || !impl_->file.close())
    impl_->fail("", "cannot be written");
  sync_path(impl_->temporary);
  std::filesystem::rename(impl_->temporary, impl_->path);
  impl_->committed = true;
  sync_path(impl_->path.has_parent_path() ? impl_->path.parent_path() : ".");
}

}  // namespace meed
