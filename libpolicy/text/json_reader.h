#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace meed {

/// A value of a JSON file together with its place, so that every complaint names file and key.
/// All readers throw DataError "FILE: KEY: expected ..., got ...".
class JsonReader {
 public:
  /// `name` is the file, for messages.
  static JsonReader parse(std::string_view text, const std::string& name);

  bool is_null() const;
  bool is_string() const;
  bool is_number() const;
  bool is_bool() const;
  bool is_array() const;
  bool is_object() const;

  JsonReader at(const std::string& key) const;  ///< Throws when it is missing.
  /// nullopt when missing or null.
  std::optional<JsonReader> find(const std::string& key) const;

  std::string string() const;
  bool boolean() const;
  int64_t integer() const;
  double number() const;
  std::string string(const std::string& key, const std::string& otherwise) const;
  bool boolean(const std::string& key, bool otherwise) const;

  std::vector<JsonReader> items() const;
  std::vector<std::pair<std::string, JsonReader>> members() const;
  /// An object of numbers, in the file's order.
  std::vector<std::pair<std::string, int64_t>> integer_members() const;
  /// Pairs of strings: ["a", "b"] or "a b".
  std::vector<std::pair<std::string, std::string>> string_pairs() const;

  const std::string& where() const { return where_; }
  [[noreturn]] void fail(const std::string& what) const;
  /// The value as JSON text.
  std::string dump() const;

 private:
  JsonReader(std::shared_ptr<const void> document, const void* value, std::string where)
      : document_(std::move(document)), value_(value), where_(std::move(where)) {}
  [[noreturn]] void expected(const char* what) const;
  JsonReader child(const void* value, const std::string& step) const;

  std::shared_ptr<const void> document_;
  const void* value_;
  std::string where_;
};

}  // namespace meed
