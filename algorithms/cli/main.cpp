#include <c10/util/Exception.h>

#include <cstdio>
#include <exception>
#include <iostream>

#include "algorithms/cli/command.h"
#include "libpolicy/core/error.h"
#include "libpolicy/core/log.h"

namespace meed::cli {

namespace {

std::vector<Command>& registered() {
  static std::vector<Command> commands;
  return commands;
}

constexpr int kFailed = 1;
constexpr int kUsage = 2;

int run(int argc, char** argv) {
  CLI::App app("Reward modelling and policy optimisation. meed COMMAND --help says more.", "meed");
  app.set_version_flag("--version", MEED_VERSION);
  app.require_subcommand(1);
  std::sort(registered().begin(), registered().end(),
            [](const auto& a, const auto& b) { return a.name < b.name; });
  for (const auto& command : registered())
    command.setup(*app.add_subcommand(command.name, command.help));
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    const int code = app.exit(e);
    if (dynamic_cast<const CLI::RuntimeError*>(&e) != nullptr) return code;
    return code == 0 ? 0 : kUsage;
  }
  return 0;
}

}  // namespace

bool add_command(Command command) {
  registered().push_back(std::move(command));
  return true;
}

const std::vector<Command>& commands() { return registered(); }

}  // namespace meed::cli

int main(int argc, char** argv) {
  std::ios::sync_with_stdio(false);
  try {
    return meed::cli::run(argc, argv);
  } catch (const meed::ConfigError& e) {
    std::fprintf(stderr, "%s\n", e.what());
    return meed::cli::kUsage;
  } catch (const c10::Error& e) {  // LibTorch's own, such as a GPU out of memory
    meed::log_error(e.what_without_backtrace());
    return meed::cli::kFailed;
  } catch (const std::exception& e) {
    meed::log_error(e.what());
    return meed::cli::kFailed;
  }
}
