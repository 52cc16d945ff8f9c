#include "algorithms/cli/rows.h"

#include <fstream>
#include <iostream>
#include <memory>

#include "libpolicy/core/error.h"
#include "libpolicy/core/log.h"
#include "libpolicy/text/unicode.h"

namespace meed::cli {
namespace {

class Output {
 public:
  explicit Output(const RowOptions& options) : name_(options.output) {
    if (name_ == "-") return;
    file_.open(name_, std::ios::binary | std::ios::trunc);
    if (!file_) throw DataError(name_ + ": cannot open for writing");
  }

  void write(const std::vector<nlohmann::ordered_json>& rows) {
    auto& out = name_ == "-" ? std::cout : static_cast<std::ostream&>(file_);
    for (const auto& row : rows)
      out << row.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) << '\n';
    out.flush();
    if (!out) throw DataError(name_ + ": cannot write (is the disk full?)");
  }

 private:
  std::string name_;
  std::ofstream file_;
};

Row parse_row(const std::string& line, const std::string& where) {
  auto json = nlohmann::ordered_json::parse(line, nullptr, /*allow_exceptions=*/false);
  if (json.is_discarded()) {
    // Models cut characters in two: such bytes cost their place, not the row.
    const auto repaired = unicode::replace_invalid(line);
    if (repaired != line) {
      log_warn(where + ": bytes that are not UTF-8 are read as U+FFFD");
      json = nlohmann::ordered_json::parse(repaired, nullptr, /*allow_exceptions=*/false);
    }
  }
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
  std::ifstream file;
  const bool standard = options.input == "-";
  if (!standard) {
    file.open(options.input, std::ios::binary);
    if (!file) throw DataError(options.input + ": cannot open for reading");
  }
  auto& in = standard ? std::cin : static_cast<std::istream&>(file);
  const std::string name = standard ? "<stdin>" : options.input;
  Output output(options);
  std::vector<Row> rows;
  const auto flush = [&] {
    if (!rows.empty()) output.write(work(rows));
    rows.clear();
  };
  std::string line;
  for (int64_t number = 1; std::getline(in, line); ++number) {
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    rows.push_back(parse_row(line, name + ":" + std::to_string(number)));
    if (rows.size() >= batch_rows) flush();
  }
  flush();
}

void write_rows(const RowOptions& options, const std::vector<nlohmann::ordered_json>& rows) {
  Output(options).write(rows);
}

}  // namespace meed::cli
