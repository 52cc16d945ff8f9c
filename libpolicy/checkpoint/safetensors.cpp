#include "libpolicy/checkpoint/safetensors.h"

#include <ATen/ATen.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>

#include "libpolicy/core/error.h"

namespace meed {
namespace {

using Json = nlohmann::ordered_json;

constexpr size_t kMaxHeaderBytes = 100'000'000;  // the format's own limit
constexpr int kMaxDepth = 8;

struct DtypeName {
  const char* name;
  at::ScalarType type;
};
constexpr DtypeName kDtypes[] = {{"F32", at::kFloat}, {"BF16", at::kBFloat16}, {"F16", at::kHalf}, {"F64", at::kDouble},
                                 {"I64", at::kLong},  {"I32", at::kInt},       {"I16", at::kShort}, {"I8", at::kChar},
                                 {"U8", at::kByte},   {"BOOL", at::kBool}};

std::optional<at::ScalarType> dtype_of(const std::string& name) {
  for (const auto& each : kDtypes)
    if (name == each.name) return each.type;
  return std::nullopt;
}

std::string name_of(at::ScalarType type) {
  for (const auto& each : kDtypes)
    if (type == each.type) return each.name;
  throw InternalError("safetensors cannot hold this dtype");
}

/// JSON whose objects have no duplicate keys and that is not nested deeply.
Json parse_header(const std::string& text, const std::string& path) {
  std::vector<std::vector<std::string>> keys;
  std::string problem;
  const auto callback = [&](int depth, Json::parse_event_t event, Json& parsed) {
    if (depth > kMaxDepth) problem = "the header is nested too deeply";
    if (event == Json::parse_event_t::object_start) keys.emplace_back();
    if (event == Json::parse_event_t::object_end && !keys.empty()) keys.pop_back();
    if (event == Json::parse_event_t::key && keys.size() == 1) keys.back().push_back(parsed.get<std::string>());
    if (event == Json::parse_event_t::object_end && depth == 0) return true;
    return problem.empty();
  };
  Json header;
  try {
    header = Json::parse(text, callback);
  } catch (const nlohmann::json::exception& e) {
    throw DataError(path + ": the safetensors header is not valid JSON (" + e.what() + "); the file is damaged, fetch it again");
  }
  if (problem.empty() && !header.is_object()) problem = "the header is not a JSON object";
  if (!problem.empty()) throw DataError(path + ": " + problem + "; the file is damaged, fetch it again");
  return header;
}

}  // namespace

SafetensorsFile::SafetensorsFile(const std::filesystem::path& path) : path_(path.string()), file_(path) {
  const auto bytes = file_.bytes();
  const auto damaged = [&](const std::string& what) -> DataError {
    return DataError(path_ + ": " + what + "; the file is damaged or cut short, fetch or write it again");
  };
  if (bytes.size() < sizeof(uint64_t)) throw damaged("not a safetensors file: only " + std::to_string(bytes.size()) + " bytes");
  uint64_t header_size = 0;
  std::memcpy(&header_size, bytes.data(), sizeof header_size);
  if (header_size > kMaxHeaderBytes || header_size > bytes.size() - sizeof header_size)
    throw damaged("the header claims " + std::to_string(header_size) + " bytes, the file has " + std::to_string(bytes.size()));
  data_offset_ = sizeof header_size + static_cast<size_t>(header_size);
  const size_t data_size = bytes.size() - data_offset_;
  const Json header = parse_header(std::string(reinterpret_cast<const char*>(bytes.data()) + sizeof header_size, static_cast<size_t>(header_size)), path_);
  for (const auto& [name, value] : header.items()) {
    if (name == "__metadata__") {
      if (value.is_object())
        for (const auto& [key, text] : value.items())
          if (text.is_string()) metadata_[key] = text.get<std::string>();
      continue;
    }
    const auto wrong = [&](const std::string& what) { return damaged("tensor \"" + name + "\": " + what); };
    if (!value.is_object() || !value.contains("dtype") || !value.contains("shape") || !value.contains("data_offsets"))
      throw wrong("dtype, shape or data_offsets is missing");
    const auto& shape = value["shape"];
    const auto& offsets = value["data_offsets"];
    if (!value["dtype"].is_string() || !shape.is_array() || !offsets.is_array() || offsets.size() != 2 ||
        !offsets[0].is_number_unsigned() || !offsets[1].is_number_unsigned())
      throw wrong("dtype, shape or data_offsets is malformed");
    const auto dtype = dtype_of(value["dtype"].get<std::string>());
    if (!dtype) throw DataError(path_ + ": tensor \"" + name + "\": dtype " + value["dtype"].get<std::string>() + " is not supported");
    Entry entry{*dtype, {}, offsets[0].get<size_t>(), offsets[1].get<size_t>()};
    uint64_t size = c10::elementSize(*dtype);
    for (const auto& dimension : shape) {
      if (!dimension.is_number_unsigned()) throw wrong("a dimension is not a natural number");
      const auto extent = dimension.get<uint64_t>();
      if (__builtin_mul_overflow(size, extent, &size) || extent > INT64_MAX) throw wrong("the shape is absurd");
      entry.shape.push_back(static_cast<int64_t>(extent));
    }
    if (entry.end < entry.begin || entry.end > data_size)
      throw wrong("its bytes [" + std::to_string(entry.begin) + ", " + std::to_string(entry.end) + ") lie outside the " + std::to_string(data_size) + " bytes of data");
    if (entry.end - entry.begin != size)
      throw wrong("has " + std::to_string(entry.end - entry.begin) + " bytes, its shape needs " + std::to_string(size));
    if (!entries_.emplace(name, std::move(entry)).second) throw wrong("stands twice");
    names_.push_back(name);
  }
  std::vector<std::pair<size_t, size_t>> ranges;
  for (const auto& [name, entry] : entries_)
    if (entry.begin != entry.end) ranges.emplace_back(entry.begin, entry.end);
  std::sort(ranges.begin(), ranges.end());
  for (size_t i = 1; i < ranges.size(); ++i)
    if (ranges[i].first < ranges[i - 1].second) throw damaged("two tensors share bytes");
}

at::Tensor SafetensorsFile::load(const std::string& name) const {
  const auto found = entries_.find(name);
  if (found == entries_.end()) throw DataError(path_ + ": tensor \"" + name + "\" is missing");
  const auto& entry = found->second;
  at::Tensor tensor = at::empty(entry.shape, at::TensorOptions().dtype(entry.dtype));
  if (entry.end > entry.begin)
    std::memcpy(tensor.data_ptr(), file_.bytes().data() + data_offset_ + entry.begin, entry.end - entry.begin);
  return tensor;
}

namespace {

void write_bytes(int fd, const char* data, size_t size, const std::filesystem::path& path) {
  constexpr size_t kMaxWrite = size_t{1} << 30;
  while (size > 0) {
    const ssize_t written = ::write(fd, data, std::min(size, kMaxWrite));
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) throw DataError(path.string() + ": cannot write: " + std::strerror(errno));
    data += written;
    size -= static_cast<size_t>(written);
  }
}

}  // namespace

void write_safetensors(const std::filesystem::path& path, const NamedTensors& tensors, const std::map<std::string, std::string>& metadata) {
  Json header = Json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  size_t offset = 0;
  for (const auto& [name, tensor] : tensors) {
    const size_t size = static_cast<size_t>(tensor.numel()) * tensor.element_size();
    header[name] = {{"dtype", name_of(tensor.scalar_type())}, {"shape", tensor.sizes().vec()}, {"data_offsets", {offset, offset + size}}};
    offset += size;
  }
  std::string text = header.dump();
  constexpr size_t kAlignment = 8;
  text.resize((text.size() + kAlignment - 1) / kAlignment * kAlignment, ' ');
  const std::filesystem::path temporary = path.string() + ".tmp";
  const int fd = ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (fd < 0) throw DataError(temporary.string() + ": cannot create: " + std::strerror(errno));
  try {
    const uint64_t size = text.size();
    write_bytes(fd, reinterpret_cast<const char*>(&size), sizeof size, path);
    write_bytes(fd, text.data(), text.size(), path);
    for (const auto& [name, tensor] : tensors) {
      const at::Tensor flat = tensor.detach().cpu().contiguous();
      write_bytes(fd, static_cast<const char*>(flat.data_ptr()), static_cast<size_t>(flat.numel()) * flat.element_size(), path);
    }
    if (::fsync(fd) != 0) throw DataError(path.string() + ": cannot sync: " + std::strerror(errno));
  } catch (...) {
    ::close(fd);
    ::unlink(temporary.c_str());
    throw;
  }
  ::close(fd);
  if (::rename(temporary.c_str(), path.c_str()) != 0) {
    const int code = errno;
    ::unlink(temporary.c_str());
    throw DataError(path.string() + ": cannot rename into place: " + std::strerror(code));
  }
}

void write_sharded_safetensors(const std::filesystem::path& folder, const NamedTensors& tensors, int64_t max_shard_bytes) {
  std::vector<NamedTensors> shards(1);
  int64_t shard_bytes = 0, total_bytes = 0;
  for (const auto& item : tensors) {
    const int64_t size = item.second.numel() * static_cast<int64_t>(item.second.element_size());
    if (!shards.back().empty() && shard_bytes + size > max_shard_bytes) {
      shards.emplace_back();
      shard_bytes = 0;
    }
    shards.back().push_back(item);
    shard_bytes += size;
    total_bytes += size;
  }
  if (shards.size() == 1) return write_safetensors(folder / "model.safetensors", shards[0]);
  Json index = {{"metadata", {{"total_size", total_bytes}}}, {"weight_map", Json::object()}};
  for (size_t i = 0; i < shards.size(); ++i) {
    char name[64];
    std::snprintf(name, sizeof name, "model-%05zu-of-%05zu.safetensors", i + 1, shards.size());
    write_safetensors(folder / name, shards[i]);
    for (const auto& [tensor, value] : shards[i]) index["weight_map"][tensor] = name;
  }
  write_file_atomic(folder / "model.safetensors.index.json", index.dump(2) + "\n");
}

}  // namespace meed
