#include <ATen/Parallel.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <memory>
#include <thread>

#include "algorithms/cli/command.h"
#include "algorithms/recipe.h"
#include "algorithms/study.h"
#include "algorithms/training_run.h"
#include "libpolicy/core/log.h"

namespace meed::cli {
namespace {

struct Options {
  std::string config;
  std::vector<std::string> overrides;
  bool resume = false, dry_run = false;
};

/// Threads that wait for each other spin; where other programs want the cores, that costs both.
void note_busy_cores() {
  if (at::get_num_threads() < 2 || std::getenv("OMP_WAIT_POLICY") || std::getenv("GOMP_SPINCOUNT"))
    return;
  std::ifstream file("/proc/loadavg");  // "0.52 0.58 0.59 RUNNING/ALL PID"
  std::string skipped;
  unsigned running = 0;
  if (!(file >> skipped >> skipped >> skipped >> running)) return;
  const unsigned cores = std::thread::hardware_concurrency();
  if (cores > 0 && running > cores)
    log_info("other programs keep this machine's " + std::to_string(cores) +
             " cores busy; OMP_WAIT_POLICY=passive lets waiting threads sleep, OMP_NUM_THREADS=1 "
             "asks for one (docs/building.md)");
}

void train(const Options& options, const std::string& resolved,
           const std::function<int(const TrainOptions&)>& run) {
  if (options.dry_run) {
    std::fputs(resolved.c_str(), stdout);
    return;
  }
  std::vector<std::string> line = {"meed", "train", options.config};
  line.insert(line.end(), options.overrides.begin(), options.overrides.end());
  note_busy_cores();
  if (const int code = run({.resume = options.resume, .command_line = line}); code != 0)
    throw CLI::RuntimeError(code);
}

void setup(CLI::App& app) {
  auto options = std::make_shared<Options>();
  app.add_option("CONFIG", options->config, "Recipe (YAML)")->required();
  app.add_option("overrides", options->overrides,
                 "Settings key=value, such as optim.learning_rate=1e-5 or rewards[0].weight=2");
  app.add_flag("--resume", options->resume,
               "Go on from the newest good checkpoint in run.output_dir");
  app.add_flag("--dry-run", options->dry_run, "Print the resolved recipe and stop");
  app.callback([options] {
    const auto node = ConfigNode::parse_file(options->config).with_overrides(options->overrides);
    if (Study::is_study(node)) {
      const auto study = Study::from_node(node);
      train(*options, study.to_yaml(), [&](const TrainOptions& how) { return study.run(how); });
    } else {
      const auto recipe = Recipe::from_node(node);
      train(*options, recipe.to_yaml(),
            [&](const TrainOptions& how) { return run_recipe(recipe, how); });
    }
  });
}

const bool registered = add_command({"train", "Run a recipe", setup});

}  // namespace
}  // namespace meed::cli
