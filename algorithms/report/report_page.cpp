#include "algorithms/report/report_page.h"

#include <nlohmann/json.hpp>

#include "algorithms/report/report_assets.h"
#include "algorithms/report/report_data.h"
#include "libpolicy/core/error.h"
#include "libpolicy/core/files.h"

namespace meed {
namespace {

std::string run_names(const std::vector<std::string>& runs) {
  std::string names;
  for (const auto& run : runs)
    names += (names.empty() ? "" : ", ") + nlohmann::json::parse(run)["name"].get<std::string>();
  return names;
}

/// Fills the page's slots in their order; what is filled in is never looked at again.
class Template {
 public:
  explicit Template(std::string_view page) : rest_(page) {}
  Template& fill(std::string_view slot, std::string_view content) {
    const auto position = rest_.find(slot);
    MEED_CHECK(position != std::string_view::npos, "report.html has no " + std::string(slot));
    page_ += rest_.substr(0, position);
    page_ += content;
    rest_.remove_prefix(position + slot.size());
    return *this;
  }
  std::string finish() { return page_ + std::string(rest_); }

 private:
  std::string_view rest_;
  std::string page_;
};

}  // namespace

std::string json_for_script(std::string_view json) {
  std::string safe;
  safe.reserve(json.size() + json.size() / 16);
  for (const char c : json) {
    switch (c) {
      case '<':
        safe += "\\u003c";
        break;
      case '>':
        safe += "\\u003e";
        break;
      case '&':
        safe += "\\u0026";
        break;
      default:
        safe += c;
    }
  }
  return safe;
}

std::string html_escape(std::string_view text) {
  std::string safe;
  for (const char c : text) {
    switch (c) {
      case '<':
        safe += "&lt;";
        break;
      case '>':
        safe += "&gt;";
        break;
      case '&':
        safe += "&amp;";
        break;
      case '"':
        safe += "&quot;";
        break;
      case '\'':
        safe += "&#39;";
        break;
      default:
        safe += c;
    }
  }
  return safe;
}

std::string report_page(const std::vector<std::filesystem::path>& folders) {
  std::vector<std::string> runs;
  for (const auto& folder : folders) runs.push_back(run_as_json(folder));
  std::string data = "[";
  for (const auto& run : runs) data += (data.size() > 1 ? "," : "") + json_for_script(run);
  data += "]";
  return Template(report_assets::kPage)
      .fill("{{title}}", html_escape(run_names(runs)))
      .fill("{{style}}", report_assets::kStyle)
      .fill("{{data}}", data)
      .fill("{{chart_js}}", report_assets::kChartJs)
      .fill("{{script}}", report_assets::kScript)
      .finish();
}

void write_report_page(const std::vector<std::filesystem::path>& runs,
                       const std::filesystem::path& output) {
  write_file_atomic(output, report_page(runs));
}

}  // namespace meed
