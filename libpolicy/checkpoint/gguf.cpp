#include "libpolicy/checkpoint/gguf.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ggml.h>
#include <gguf.h>

#include <mutex>

#include "libpolicy/core/error.h"
#include "libpolicy/core/files.h"

namespace meed {
namespace {

/// What ggml said last; it logs where we want an exception's text.
std::string& last_message() {
  thread_local std::string message;
  return message;
}

void remember(ggml_log_level level, const char* text, void*) {
  if (level == GGML_LOG_LEVEL_ERROR) last_message() = text;
}

std::string trimmed(std::string text) {
  while (!text.empty() && (text.back() == '\n' || text.back() == ' ')) text.pop_back();
  return text;
}

double scalar_as_double(const gguf_context* context, int64_t id) {
  switch (gguf_get_kv_type(context, id)) {
    case GGUF_TYPE_UINT8: return gguf_get_val_u8(context, id);
    case GGUF_TYPE_INT8: return gguf_get_val_i8(context, id);
    case GGUF_TYPE_UINT16: return gguf_get_val_u16(context, id);
    case GGUF_TYPE_INT16: return gguf_get_val_i16(context, id);
    case GGUF_TYPE_UINT32: return gguf_get_val_u32(context, id);
    case GGUF_TYPE_INT32: return gguf_get_val_i32(context, id);
    case GGUF_TYPE_UINT64: return static_cast<double>(gguf_get_val_u64(context, id));
    case GGUF_TYPE_INT64: return static_cast<double>(gguf_get_val_i64(context, id));
    case GGUF_TYPE_FLOAT32: return gguf_get_val_f32(context, id);
    case GGUF_TYPE_FLOAT64: return gguf_get_val_f64(context, id);
    case GGUF_TYPE_BOOL: return gguf_get_val_bool(context, id) ? 1.0 : 0.0;
    default: return std::numeric_limits<double>::quiet_NaN();
  }
}

template <typename T>
void append_array(const gguf_context* context, int64_t id, std::vector<double>& out) {
  const auto* data = static_cast<const T*>(gguf_get_arr_data(context, id));
  for (size_t i = 0; i < gguf_get_arr_n(context, id); ++i) out.push_back(static_cast<double>(data[i]));
}

}  // namespace

struct GgufFile::Impl {
  explicit Impl(const std::filesystem::path& file) : path(file.string()), mapped(file) {
    static std::once_flag once;
    std::call_once(once, [] { ggml_log_set(remember, nullptr); });
    last_message().clear();
    const auto bytes = mapped.bytes();
    constexpr size_t kSmallest = 24;  // magic, version, two counts
    if (bytes.size() < kSmallest || std::memcmp(bytes.data(), "GGUF", 4) != 0)
      throw DataError(path + ": not a GGUF file");
    check_counts(bytes);
    ggml_context* created = nullptr;
    context = gguf_init_from_buffer(bytes.data(), bytes.size(), {/*no_alloc=*/true, &created});
    tensors = created;
    if (context == nullptr)
      throw DataError(path + ": damaged GGUF file (" + trimmed(last_message()) + "); fetch it again");
    check_tensors();
  }

  ~Impl() {
    if (tensors != nullptr) ggml_free(tensors);
    if (context != nullptr) gguf_free(context);
  }

  /// Counts that the file cannot hold make the parser reserve memory that nobody has.
  void check_counts(std::span<const std::byte> bytes) const {
    int64_t counts[2];
    std::memcpy(counts, bytes.data() + 8, sizeof counts);
    constexpr int64_t kSmallestEntry = 12;
    for (const int64_t count : counts)
      if (count < 0 || count > static_cast<int64_t>(bytes.size()) / kSmallestEntry)
        throw DataError(path + ": damaged GGUF file (claims " + std::to_string(count) + " entries in " + std::to_string(bytes.size()) + " bytes); fetch it again");
  }

  void check_tensors() const {
    const size_t start = gguf_get_data_offset(context);
    for (int64_t i = 0; i < gguf_get_n_tensors(context); ++i) {
      const size_t offset = gguf_get_tensor_offset(context, i);
      const size_t size = gguf_get_tensor_size(context, i);
      const size_t total = mapped.bytes().size();
      if (start > total || offset > total - start || size > total - start - offset)
        throw DataError(path + ": tensor \"" + gguf_get_tensor_name(context, i) + "\" lies outside the file; it is cut short, fetch it again");
    }
  }

  int64_t find(const std::string& key) const { return gguf_find_key(context, key.c_str()); }

  std::string path;
  MappedFile mapped;
  gguf_context* context = nullptr;
  ggml_context* tensors = nullptr;
};

GgufFile::GgufFile(const std::filesystem::path& path) : impl_(std::make_unique<Impl>(path)) {}
GgufFile::~GgufFile() = default;

bool GgufFile::has(const std::string& key) const { return impl_->find(key) >= 0; }

std::optional<std::string> GgufFile::string(const std::string& key) const {
  const auto id = impl_->find(key);
  if (id < 0 || gguf_get_kv_type(impl_->context, id) != GGUF_TYPE_STRING) return std::nullopt;
  return gguf_get_val_str(impl_->context, id);
}

std::optional<double> GgufFile::number(const std::string& key) const {
  const auto id = impl_->find(key);
  if (id < 0) return std::nullopt;
  const double value = scalar_as_double(impl_->context, id);
  if (std::isnan(value)) return std::nullopt;
  return value;
}

std::optional<int64_t> GgufFile::integer(const std::string& key) const {
  const auto value = number(key);
  constexpr double kLimit = 9e15;  // exact in a double
  if (!value || std::abs(*value) > kLimit) return std::nullopt;
  return static_cast<int64_t>(*value);
}

std::optional<bool> GgufFile::boolean(const std::string& key) const {
  const auto value = number(key);
  if (!value) return std::nullopt;
  return *value != 0.0;
}

std::vector<std::string> GgufFile::strings(const std::string& key) const {
  const auto id = impl_->find(key);
  if (id < 0) return {};
  if (gguf_get_kv_type(impl_->context, id) != GGUF_TYPE_ARRAY || gguf_get_arr_type(impl_->context, id) != GGUF_TYPE_STRING)
    throw DataError(impl_->path + ": key \"" + key + "\" is not a list of strings");
  std::vector<std::string> values(gguf_get_arr_n(impl_->context, id));
  for (size_t i = 0; i < values.size(); ++i) values[i] = gguf_get_arr_str(impl_->context, id, i);
  return values;
}

std::vector<double> GgufFile::numbers(const std::string& key) const {
  const auto id = impl_->find(key);
  if (id < 0) return {};
  const auto* context = impl_->context;
  if (gguf_get_kv_type(context, id) != GGUF_TYPE_ARRAY) throw DataError(impl_->path + ": key \"" + key + "\" is not a list");
  std::vector<double> values;
  switch (gguf_get_arr_type(context, id)) {
    case GGUF_TYPE_UINT8: append_array<uint8_t>(context, id, values); break;
    case GGUF_TYPE_INT8: append_array<int8_t>(context, id, values); break;
    case GGUF_TYPE_UINT16: append_array<uint16_t>(context, id, values); break;
    case GGUF_TYPE_INT16: append_array<int16_t>(context, id, values); break;
    case GGUF_TYPE_UINT32: append_array<uint32_t>(context, id, values); break;
    case GGUF_TYPE_INT32: append_array<int32_t>(context, id, values); break;
    case GGUF_TYPE_UINT64: append_array<uint64_t>(context, id, values); break;
    case GGUF_TYPE_INT64: append_array<int64_t>(context, id, values); break;
    case GGUF_TYPE_FLOAT32: append_array<float>(context, id, values); break;
    case GGUF_TYPE_FLOAT64: append_array<double>(context, id, values); break;
    default: throw DataError(impl_->path + ": key \"" + key + "\" is not a list of numbers");
  }
  return values;
}

std::vector<std::string> GgufFile::tensor_names() const {
  std::vector<std::string> names;
  for (int64_t i = 0; i < gguf_get_n_tensors(impl_->context); ++i) names.emplace_back(gguf_get_tensor_name(impl_->context, i));
  return names;
}

bool GgufFile::has_tensor(const std::string& name) const { return gguf_find_tensor(impl_->context, name.c_str()) >= 0; }

std::vector<int64_t> GgufFile::shape(const std::string& name) const {
  if (!has_tensor(name)) throw DataError(impl_->path + ": tensor \"" + name + "\" is missing");
  const ggml_tensor* info = ggml_get_tensor(impl_->tensors, name.c_str());
  std::vector<int64_t> shape;
  for (int d = ggml_n_dims(info) - 1; d >= 0; --d) shape.push_back(info->ne[d]);
  return shape;
}

at::Tensor GgufFile::load(const std::string& name) const {
  at::Tensor tensor = at::empty(shape(name), at::kFloat);
  const auto id = gguf_find_tensor(impl_->context, name.c_str());
  const ggml_tensor* info = ggml_get_tensor(impl_->tensors, name.c_str());
  const auto* source = reinterpret_cast<const uint8_t*>(impl_->mapped.bytes().data()) + gguf_get_data_offset(impl_->context) + gguf_get_tensor_offset(impl_->context, id);
  const auto type = gguf_get_tensor_type(impl_->context, id);
  if (type == GGML_TYPE_F32) {
    std::memcpy(tensor.data_ptr(), source, static_cast<size_t>(tensor.numel()) * sizeof(float));
    return tensor;
  }
  const auto convert = ggml_get_type_traits(type)->to_float;
  if (convert == nullptr) throw DataError(impl_->path + ": tensor \"" + name + "\" has type " + ggml_type_name(type) + ", which cannot be dequantised");
  const int64_t row = info->ne[0];
  const int64_t rows = tensor.numel() / std::max<int64_t>(row, 1);
  const size_t row_bytes = ggml_row_size(type, row);
  auto* target = tensor.data_ptr<float>();
  at::parallel_for(0, rows, 64, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) convert(source + static_cast<size_t>(r) * row_bytes, target + r * row, row);
  });
  return tensor;
}

const std::string& GgufFile::path() const { return impl_->path; }

}  // namespace meed
