#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace meed {

/// (entity, relation) -> entity.
using Graph = std::map<std::pair<std::string, std::string>, std::string>;

/// Entity and relation of the last "<search> entity relation </search>" of a text; nullopt if it
/// cannot be read.
std::optional<std::pair<std::string, std::string>> last_query(std::string_view turn);

/// Where an edge of "anna boss ben;..." leads.
std::optional<std::string> look_up(std::string_view edges,
                                   const std::pair<std::string, std::string>& query);

/// Words between white space.
std::vector<std::string> words_of(std::string_view text);

}  // namespace meed
