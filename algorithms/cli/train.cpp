#include <cstdio>
#include <memory>

#include "algorithms/cli/command.h"
#include "algorithms/recipe.h"
#include "algorithms/training_run.h"

namespace meed::cli {
namespace {

struct Options {
  std::string config;
  std::vector<std::string> overrides;
  bool resume = false, dry_run = false;
};

void setup(CLI::App& app) {
  auto options = std::make_shared<Options>();
  app.add_option("CONFIG", options->config, "Recipe (YAML)")->required();
  app.add_option("overrides", options->overrides,
                 "Settings key=value, such as optim.learning_rate=1e-5 or rewards[0].weight=2");
  app.add_flag("--resume", options->resume,
               "Go on from the newest good checkpoint in run.output_dir");
  app.add_flag("--dry-run", options->dry_run, "Print the resolved recipe and stop");
  app.callback([options] {
    const auto recipe = Recipe::load(options->config, options->overrides);
    if (options->dry_run) {
      std::fputs(recipe.to_yaml().c_str(), stdout);
      return;
    }
    std::vector<std::string> line = {"meed", "train", options->config};
    line.insert(line.end(), options->overrides.begin(), options->overrides.end());
    const int code = run_recipe(recipe, {.resume = options->resume, .command_line = line});
    if (code != 0) throw CLI::RuntimeError(code);
  });
}

const bool registered = add_command({"train", "Run a recipe", setup});

}  // namespace
}  // namespace meed::cli
