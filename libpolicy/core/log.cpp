#include "libpolicy/core/log.h"

#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <mutex>
#include <string_view>

namespace meed {
namespace {

struct State {
  std::mutex mutex;
  int rank = 0;
  int world_size = 1;
  std::function<void()> before_line;
};

State& state() {
  static State instance;
  return instance;
}

bool colours() {
  static const bool use = ::isatty(STDERR_FILENO) == 1 && std::getenv("NO_COLOR") == nullptr;
  return use;
}

void write_line(const char* level, const char* colour, const std::string& message) {
  const std::lock_guard lock(state().mutex);
  if (state().before_line) state().before_line();
  char time[16];
  const std::time_t now = std::time(nullptr);
  std::tm local{};
  localtime_r(&now, &local);
  std::strftime(time, sizeof time, "%H:%M:%S", &local);
  std::string line = std::string(time) + " ";
  if (state().world_size > 1) line += "[rank " + std::to_string(state().rank) + "] ";
  line += colours() ? std::string(colour) + level + "\033[0m " : std::string(level) + " ";
  line += message + "\n";
  std::fwrite(line.data(), 1, line.size(), stderr);
}

}  // namespace

void set_log_rank(int rank, int world_size) {
  state().rank = rank;
  state().world_size = world_size;
}

void set_log_hook(std::function<void()> hook) {
  const std::lock_guard lock(state().mutex);
  state().before_line = std::move(hook);
}

void log_info(const std::string& message, bool any_rank) {
  if (any_rank || state().rank == 0) write_line("info", "\033[32m", message);
}

void log_warn(const std::string& message, bool any_rank) {
  if (any_rank || state().rank == 0) write_line("warning", "\033[33m", message);
}

void log_error(const std::string& message) { write_line("error", "\033[31m", message); }

}  // namespace meed
