#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "libpolicy/data/example.h"

namespace meed {

/// A column of the dataset. Throws DataError that names row, `reward` and column if it is missing.
const std::string& column(const Example& example, const std::string& name, const char* reward);

/// A column that holds a text, or a JSON list of texts.
std::vector<std::string> texts_of(const std::string& value);

/// The inside of the only <tag>...</tag> of a text; nullopt if there is none, several, or the tags
/// do not pair up.
std::optional<std::string_view> only_block(std::string_view text, const std::string& tag);

/// Nothing but white space.
bool is_blank(std::string_view text);

}  // namespace meed
