#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <string>
#include <vector>

namespace meed::cli {

/// One subcommand of the program. `setup` adds options to its App and a callback that does the
/// work; the callback throws ConfigError (exit 2) or another Error (exit 1).
struct Command {
  std::string name, help;
  std::function<void(CLI::App&)> setup;
};

/// All commands, by file order; each command's .cpp file adds itself:
///   const bool registered = add_command({"tokenize", "Text to token ids and back", setup});
bool add_command(Command command);
const std::vector<Command>& commands();

}  // namespace meed::cli
