#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>

namespace meed::cli {

/// --input FILE --output FILE of a row command (JSONL; "-" is standard input / output).
struct RowOptions {
  std::string input = "-", output = "-";
  void add_to(CLI::App& app);
};

/// Reads rows, calls `work` on up to `batch_rows` of them at a time, writes what it returns, one
/// object a line, in order. A line that is not a JSON object is a DataError "FILE:LINE: ...".
/// `where` of a row: "FILE:LINE".
struct Row {
  nlohmann::ordered_json json;
  std::string where;
};
void for_each_rows(
    const RowOptions& options, size_t batch_rows,
    const std::function<std::vector<nlohmann::ordered_json>(std::vector<Row>&)>& work);

/// Writes rows to the output alone.
void write_rows(const RowOptions& options, const std::vector<nlohmann::ordered_json>& rows);

}  // namespace meed::cli
