#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace meed {

/// JSON that may stand inside a <script> element: no text in it can end the element or begin
/// another. The value stays the same.
std::string json_for_script(std::string_view json);
/// Text that may stand between tags or in an attribute.
std::string html_escape(std::string_view text);

/// One HTML page of one or several run folders, with everything in it: no network is used, text of
/// a model or a dataset is shown as text. Throws DataError that names a folder which is no run.
std::string report_page(const std::vector<std::filesystem::path>& runs);
/// The same, written atomically.
void write_report_page(const std::vector<std::filesystem::path>& runs,
                       const std::filesystem::path& output);

}  // namespace meed
