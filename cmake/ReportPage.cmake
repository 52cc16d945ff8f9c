# Embeds the report's page and Chart.js in libalgorithms, so that a report is one file that needs no network.
find_file(MEED_CHART_JS NAMES chart.min.js Chart.min.js chart.js
  PATHS /usr/share/javascript/chart.js /usr/share/nodejs/chart.js/dist NO_DEFAULT_PATH)
if(NOT MEED_CHART_JS)
  message(FATAL_ERROR "Chart.js is missing; the report needs it: apt-get install libjs-chart.js (or set MEED_CHART_JS to a chart.min.js of version 3)")
endif()
set(report_page ${CMAKE_SOURCE_DIR}/algorithms/report/page)
set(report_files ${report_page}/report.html ${report_page}/report.css ${MEED_CHART_JS}
  ${report_page}/report.js ${report_page}/charts.js ${report_page}/rewards.js ${report_page}/completions.js)
set(report_assets ${CMAKE_BINARY_DIR}/generated/report_assets.cpp)
add_custom_command(OUTPUT ${report_assets}
  COMMAND ${CMAKE_COMMAND} -DOUTPUT=${report_assets} "-DFILES=${report_files}" -P ${CMAKE_SOURCE_DIR}/cmake/EmbedReportPage.cmake
  DEPENDS ${report_files} ${CMAKE_SOURCE_DIR}/cmake/EmbedReportPage.cmake
  COMMENT "Embedding the report's page" VERBATIM)
target_sources(algorithms PRIVATE ${report_assets})
set_source_files_properties(${report_assets} PROPERTIES SKIP_PRECOMPILE_HEADERS ON)
target_compile_definitions(algorithms PRIVATE MEED_VERSION="${PROJECT_VERSION}")
