#include "libpolicy/text/json_reader.h"

#include <bit>
#include <nlohmann/json.hpp>

#include "libpolicy/core/error.h"

namespace meed {
namespace {

/// An object that keeps the file's order and finds a key of many by its hash: a vocabulary is an
/// object of 100 000 keys, and nlohmann's ordered map compares each with all before it. Keys come
/// by operator[] alone, which is how the parser adds them; none is taken away.
template <typename Key, typename Value, typename Compare, typename Allocator>
class IndexedMap : public nlohmann::ordered_map<Key, Value, Compare, Allocator> {
 public:
  using Base = nlohmann::ordered_map<Key, Value, Compare, Allocator>;
  using Base::Base;
  using iterator = typename Base::iterator;
  using const_iterator = typename Base::const_iterator;

  Value& operator[](const Key& key) {
    const auto found = position(key);
    if (found != kNone) return this->begin()[found].second;
    this->emplace_back(key, Value{});
    if (slots_.size() < 2 * this->size())
      build();
    else
      place(this->size() - 1);
    return this->back().second;
  }
  const_iterator find(const Key& key) const {
    const auto found = position(key);
    return found == kNone ? this->end() : this->begin() + static_cast<std::ptrdiff_t>(found);
  }
  iterator find(const Key& key) {
    const auto found = position(key);
    return found == kNone ? this->end() : this->begin() + static_cast<std::ptrdiff_t>(found);
  }

 private:
  static constexpr uint32_t kNone = UINT32_MAX;
  static constexpr size_t kFew = 16;  // are compared one by one

  const Key& key_at(size_t i) const { return Base::begin()[static_cast<std::ptrdiff_t>(i)].first; }
  uint32_t position(const Key& key) const {
    if (this->size() <= kFew || slots_.empty()) {
      for (size_t i = 0; i < this->size(); ++i)
        if (key_at(i) == key) return static_cast<uint32_t>(i);
      return kNone;
    }
    return slots_[slot_of(key)];
  }
  size_t slot_of(const Key& key) const {
    const size_t mask = slots_.size() - 1;
    size_t slot = std::hash<Key>()(key) & mask;
    while (slots_[slot] != kNone && key_at(slots_[slot]) != key) slot = (slot + 1) & mask;
    return slot;
  }
  void place(size_t i) { slots_[slot_of(key_at(i))] = static_cast<uint32_t>(i); }
  void build() {
    if (this->size() <= kFew) return;
    slots_.assign(std::bit_ceil(4 * this->size()), kNone);
    for (size_t i = 0; i < this->size(); ++i) place(i);
  }

  std::vector<uint32_t> slots_;  // hash -> index
};

using Json = nlohmann::basic_json<IndexedMap>;
const Json& as_json(const void* value) { return *static_cast<const Json*>(value); }

}  // namespace

JsonReader JsonReader::parse(std::string_view text, const std::string& name) {
  try {
    auto document = std::make_shared<const Json>(Json::parse(text.begin(), text.end()));
    const void* value = document.get();
    return JsonReader(std::move(document), value, name);
  } catch (const Json::exception& e) {
    throw DataError(name + ": not valid JSON (is the file cut short?): " + e.what());
  }
}

void JsonReader::fail(const std::string& what) const { throw DataError(where_ + ": " + what); }

void JsonReader::expected(const char* what) const {
  std::string text = as_json(value_).dump(-1, ' ', false, Json::error_handler_t::replace);
  if (text.size() > 60) text = text.substr(0, 57) + "...";
  fail(std::string("expected ") + what + ", got " + text);
}

JsonReader JsonReader::child(const void* value, const std::string& step) const {
  const bool first = where_.find(": ") == std::string::npos;
  return JsonReader(document_, value,
                    where_ +
                        (first                   ? ": "
                         : step.starts_with("[") ? ""
                                                 : ".") +
                        step);
}

bool JsonReader::is_null() const { return as_json(value_).is_null(); }
bool JsonReader::is_string() const { return as_json(value_).is_string(); }
bool JsonReader::is_number() const { return as_json(value_).is_number(); }
bool JsonReader::is_bool() const { return as_json(value_).is_boolean(); }
bool JsonReader::is_array() const { return as_json(value_).is_array(); }
bool JsonReader::is_object() const { return as_json(value_).is_object(); }

JsonReader JsonReader::at(const std::string& key) const {
  if (!is_object()) expected("an object");
  const auto found = as_json(value_).find(key);
  if (found == as_json(value_).end()) fail("\"" + key + "\" is missing");
  return child(&*found, key);
}

std::optional<JsonReader> JsonReader::find(const std::string& key) const {
  if (!is_object()) expected("an object");
  const auto found = as_json(value_).find(key);
  if (found == as_json(value_).end() || found->is_null()) return std::nullopt;
  return child(&*found, key);
}

std::string JsonReader::string() const {
  if (!is_string()) expected("a string");
  return as_json(value_).get<std::string>();
}

bool JsonReader::boolean() const {
  if (!is_bool()) expected("true or false");
  return as_json(value_).get<bool>();
}

int64_t JsonReader::integer() const {
  if (!as_json(value_).is_number_integer()) expected("an integer");
  return as_json(value_).get<int64_t>();
}

double JsonReader::number() const {
  if (!is_number()) expected("a number");
  return as_json(value_).get<double>();
}

std::string JsonReader::string(const std::string& key, const std::string& otherwise) const {
  const auto found = find(key);
  return found ? found->string() : otherwise;
}

bool JsonReader::boolean(const std::string& key, bool otherwise) const {
  const auto found = find(key);
  return found ? found->boolean() : otherwise;
}

std::vector<JsonReader> JsonReader::items() const {
  if (!is_array()) expected("an array");
  std::vector<JsonReader> result;
  for (const auto& item : as_json(value_))
    result.push_back(child(&item, "[" + std::to_string(result.size()) + "]"));
  return result;
}

std::vector<std::pair<std::string, JsonReader>> JsonReader::members() const {
  if (!is_object()) expected("an object");
  std::vector<std::pair<std::string, JsonReader>> result;
  for (const auto& [key, value] : as_json(value_).items())
    result.emplace_back(key, child(&value, key));
  return result;
}

std::vector<std::pair<std::string, int64_t>> JsonReader::integer_members() const {
  if (!is_object()) expected("an object");
  std::vector<std::pair<std::string, int64_t>> result;
  result.reserve(as_json(value_).size());
  for (const auto& [key, value] : as_json(value_).items()) {
    if (!value.is_number_integer()) child(&value, "\"" + key + "\"").expected("an integer");
    result.emplace_back(key, value.get<int64_t>());
  }
  return result;
}

std::vector<std::pair<std::string, std::string>> JsonReader::string_pairs() const {
  if (!is_array()) expected("an array");
  std::vector<std::pair<std::string, std::string>> result;
  result.reserve(as_json(value_).size());
  for (const auto& item : as_json(value_)) {
    const auto wrong = [&] {
      child(&item, "[" + std::to_string(result.size()) + "]")
          .expected("two tokens: [\"a\", \"b\"] or \"a b\"");
    };
    if (item.is_array()) {
      if (item.size() != 2 || !item[0].is_string() || !item[1].is_string()) wrong();
      result.emplace_back(item[0].get<std::string>(), item[1].get<std::string>());
      continue;
    }
    if (!item.is_string()) wrong();
    const auto& text = item.get_ref<const std::string&>();
    const size_t space = text.find(' ');
    if (space == std::string::npos || text.find(' ', space + 1) != std::string::npos) wrong();
    result.emplace_back(text.substr(0, space), text.substr(space + 1));
  }
  return result;
}

std::string JsonReader::dump() const { return as_json(value_).dump(); }

}  // namespace meed
