#include <cstdio>
#include <filesystem>

#include "algorithms/cli/command.h"
#include "algorithms/report/report_page.h"
#include "libpolicy/core/error.h"

namespace meed::cli {
namespace {

namespace fs = std::filesystem;

struct Options {
  std::vector<std::string> runs;
  std::string output;
};

void write_report(const Options& options) {
  std::vector<fs::path> runs(options.runs.begin(), options.runs.end());
  for (const auto& run : runs)
    if (!fs::is_directory(run))
      throw ConfigError(run.string() + ": not a folder; give the output_dir of a run");
  const fs::path output = options.output.empty() ? (runs.size() == 1 ? runs.front() / "report.html"
                                                                     : fs::path("report.html"))
                                                 : fs::path(options.output);
  write_report_page(runs, output);
  std::printf("%s\n", output.c_str());
}

void setup(CLI::App& app) {
  const auto options = std::make_shared<Options>();
  app.add_option("RUN", options->runs, "Folders of runs (output_dir); several stand side by side")
      ->required();
  app.add_option("-o,--output", options->output,
                 "HTML file to write; default: report.html in the run, or here for several runs");
  app.footer(
      "Works on a run that goes on, was interrupted or is damaged: the page says what is missing.");
  app.callback([options] { write_report(*options); });
}

const bool registered =
    add_command({"report", "One self-contained HTML page of one or several runs", setup});

}  // namespace
}  // namespace meed::cli
