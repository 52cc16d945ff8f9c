#include "libreward/functions/columns.h"

#include <nlohmann/json.hpp>

#include "libpolicy/core/error.h"

namespace meed {

const std::string& column(const Example& example, const std::string& name, const char* reward) {
  const auto found = example.extra.find(name);
  if (found == example.extra.end())
    throw DataError("row " + std::to_string(example.row + 1) + ": " + reward +
                    " needs the column \"" + name + "\"; map it by the dataset's `columns`");
  return found->second;
}

std::vector<std::string> texts_of(const std::string& value) {
  if (!value.starts_with('[')) return {value};
  const auto json = nlohmann::json::parse(value, nullptr, /*allow_exceptions=*/false);
  if (!json.is_array() || json.empty()) return {value};
  std::vector<std::string> texts;
  for (const auto& each : json) {
    if (!each.is_string()) return {value};
    texts.push_back(each.get<std::string>());
  }
  return texts;
}

std::optional<std::string_view> only_block(std::string_view text, const std::string& tag) {
  const std::string open = "<" + tag + ">", close = "</" + tag + ">";
  const auto first = text.find(open), last = text.find(close);
  if (first == std::string_view::npos || last == std::string_view::npos) return std::nullopt;
  const auto begin = first + open.size();
  if (last < begin || text.find(open, begin) != std::string_view::npos ||
      text.find(close, last + close.size()) != std::string_view::npos)
    return std::nullopt;
  return text.substr(begin, last - begin);
}

bool is_blank(std::string_view text) {
  return text.find_first_not_of(" \t\r\n") == std::string_view::npos;
}

}  // namespace meed
