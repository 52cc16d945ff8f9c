#pragma once

#include <map>
#include <string>
#include <string_view>

namespace meed {

/// The pattern with every {name} of `values` replaced by its text. What is filled in is not looked
/// at again; braces around other words stay.
std::string fill_placeholders(std::string_view pattern,
                              const std::map<std::string, std::string>& values);

}  // namespace meed
