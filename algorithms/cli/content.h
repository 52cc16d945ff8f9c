#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "algorithms/cli/rows.h"
#include "libpolicy/data/example.h"

namespace meed::cli {

/// A column of a row as text or messages. Throws DataError naming the row if it is neither; an
/// absent column is empty.
Content content_of(const Row& row, const std::string& key);
/// The same of one value that stands in the row under `key`; `tools` is the row's list of
/// functions.
Content content_of(const nlohmann::ordered_json& value, const Row& row, const std::string& key);

}  // namespace meed::cli
