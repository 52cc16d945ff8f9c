#include "libreward/data/vector_example.h"

#include <charconv>

#include "libpolicy/core/error.h"

namespace meed {
namespace {

/// All numbers of a list, or of a list of lists; false if it is none.
bool read_numbers(const std::string& text, std::vector<float>& values) {
  int depth = 0;
  const char* at = text.data();
  const char* const end = at + text.size();
  while (at < end) {
    const char c = *at;
    if (c == '[' || c == ']') {
      depth += c == '[' ? 1 : -1;
      if (depth < 0 || depth > 2) return false;
      ++at;
    } else if (c == ',' || c == ' ' || c == '\n' || c == '\t') {
      ++at;
    } else {
      float value = 0.0f;
      const auto read = std::from_chars(at, end, value);
      if (read.ec != std::errc() || depth == 0) return false;
      values.push_back(value);
      at = read.ptr;
    }
  }
  return depth == 0 && !values.empty();
}

}  // namespace

std::shared_ptr<const VectorExample> read_vectors(Example example) {
  auto row = std::make_shared<VectorExample>();
  static_cast<Example&>(*row) = std::move(example);
  for (const char* name : {"features", "chosen_features", "rejected_features", "context_features",
                           "candidate_features"}) {
    const auto found = row->extra.find(name);
    if (found == row->extra.end()) continue;
    if (!read_numbers(found->second, row->vectors[name]))
      throw DataError("row " + std::to_string(row->row + 1) + ": \"" + name +
                      "\": expected a list of numbers");
    row->extra.erase(found);
  }
  return row;
}

std::string vector_column(const std::vector<float>& values) {
  std::string text = "[";
  char number[32];
  for (const float value : values) {
    if (text.size() > 1) text += ',';
    text.append(number, std::to_chars(number, number + sizeof number, value).ptr);
  }
  return text + "]";
}

}  // namespace meed
