#include "algorithms/cli/rows.h"

#include <fstream>
#include <iostream>
#include <memory>

#include "libpolicy/core/error.h"

namespace meed::cli {
namespace {

struct Streams {
  std::ifstream file_in;
  std::ofstream file_out;
  std::istream* in = &std::cin;
  std::ostream* out = &std::cout;
  std::string input_name = "<stdin>";

  explicit Streams(const RowOptions& options) {
    if (options.input != "-") {
      file_in.open(options.input, std::ios::binary);
      if (!file_in) throw DataError(options.input + ": cannot open for reading");
      in = &file_in;
      input_name = options.input;
    }
    if (options.output != "-") {
      file_out.open(options.output, std::ios::binary | std::ios::trunc);
      if (!file_out) throw DataError(options.output + ": cannot open for writing");
      out = &file_out;
    }
  }
};

Row parse_row(const std::string& line, const std::string& where) {
  auto json = nlohmann::ordered_json::parse(line, nullptr, /*allow_exceptions=*/false);
  if (json.is_discarded())
    throw DataError(where + ": not valid JSON; each line must be one JSON object");
  if (!json.is_object())
    throw DataError(where + ": expected a JSON object, got " + std::string(json.type_name()));
  return {std::move(json), where};
}

}  // namespace

void RowOptions::add_to(CLI::App& app) {
  app.add_option("--input", input, "JSONL file to read; - is standard input")
      ->capture_default_str();
  app.add_option("--output", output, "JSONL file to write; - is standard output")
      ->capture_default_str();
}

void for_each_rows(
    const RowOptions& options, size_t batch_rows,
    const std::function<std::vector<nlohmann::ordered_json>(std::vector<Row>&)>& work) {
  Streams streams(options);
  std::vector<Row> rows;
  const auto flush = [&] {
    if (rows.empty()) return;
    for (const auto& result : work(rows))
      *streams.out << result.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) << '\n';
    streams.out->flush();
    if (!*streams.out) throw DataError(options.output + ": cannot write (is the disk full?)");
    rows.clear();
  };
  std::string line;
  for (int64_t number = 1; std::getline(*streams.in, line); ++number) {
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    rows.push_back(parse_row(line, streams.input_name + ":" + std::to_string(number)));
    if (rows.size() >= batch_rows) flush();
  }
  flush();
}

}  // namespace meed::cli
