#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

namespace meed::testing {

/// A GGUF of version 3, written field by field as the format's description says.
class GgufWriter {
 public:
  void add(const std::string& key, const std::string& value) {
    start(key, kString);
    text(keys_, value);
  }
  void add(const std::string& key, const char* value) { add(key, std::string(value)); }
  void add(const std::string& key, bool value) {
    start(key, kBool);
    raw(keys_, static_cast<uint8_t>(value));
  }
  void add(const std::string& key, uint32_t value) {
    start(key, kUint32);
    raw(keys_, value);
  }
  void add(const std::string& key, float value) {
    start(key, kFloat32);
    raw(keys_, value);
  }
  void add(const std::string& key, const std::vector<std::string>& values) {
    start_list(key, kString, values.size());
    for (const auto& value : values) text(keys_, value);
  }
  void add(const std::string& key, const std::vector<int32_t>& values) {
    start_list(key, kInt32, values.size());
    for (const auto value : values) raw(keys_, value);
  }
  void add(const std::string& key, const std::vector<float>& values) {
    start_list(key, kFloat32, values.size());
    for (const auto value : values) raw(keys_, value);
  }
  /// `shape` in GGUF's order, the row first; `type` is ggml's number (0: float32).
  void add_tensor(const std::string& name, const std::vector<uint64_t>& shape, uint32_t type,
                  std::string_view bytes) {
    text(tensors_, name);
    raw(tensors_, static_cast<uint32_t>(shape.size()));
    for (const auto size : shape) raw(tensors_, size);
    raw(tensors_, type);
    raw(tensors_, static_cast<uint64_t>(data_.size()));
    data_ += bytes;
    data_.resize((data_.size() + kAlignment - 1) / kAlignment * kAlignment);
    ++num_tensors_;
  }
  void add_tensor(const std::string& name, const std::vector<uint64_t>& shape,
                  const std::vector<float>& values) {
    add_tensor(name, shape, 0,
               {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float)});
  }

  void write(const std::filesystem::path& path) const {
    std::string out = "GGUF";
    raw(out, uint32_t{3});
    raw(out, num_tensors_);
    raw(out, num_keys_);
    out += keys_ + tensors_;
    out.resize((out.size() + kAlignment - 1) / kAlignment * kAlignment);
    out += data_;
    std::ofstream(path, std::ios::binary) << out;
  }

 private:
  static constexpr size_t kAlignment = 32;
  enum Type : uint32_t { kUint32 = 4, kInt32 = 5, kFloat32 = 6, kBool = 7, kString = 8, kList = 9 };

  template <typename T>
  static void raw(std::string& out, T value) {
    static_assert(std::is_arithmetic_v<T>);
    out.append(reinterpret_cast<const char*>(&value), sizeof value);
  }
  static void text(std::string& out, const std::string& value) {
    raw(out, static_cast<uint64_t>(value.size()));
    out += value;
  }
  void start(const std::string& key, Type type) {
    text(keys_, key);
    raw(keys_, static_cast<uint32_t>(type));
    ++num_keys_;
  }
  void start_list(const std::string& key, Type type, size_t count) {
    start(key, kList);
    raw(keys_, static_cast<uint32_t>(type));
    raw(keys_, static_cast<uint64_t>(count));
  }

  std::string keys_, tensors_, data_;
  uint64_t num_keys_ = 0, num_tensors_ = 0;
};

}  // namespace meed::testing
