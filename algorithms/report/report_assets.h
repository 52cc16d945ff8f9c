#pragma once

#include <string_view>

/// The files of algorithms/report/page and Chart.js, embedded by cmake/ReportPage.cmake.
namespace meed::report_assets {

extern const std::string_view kPage;     ///< report.html
extern const std::string_view kStyle;    ///< report.css
extern const std::string_view kChartJs;  ///< Debian's libjs-chart.js
extern const std::string_view kScript;   ///< the page's own JavaScript, its files in order

}  // namespace meed::report_assets
