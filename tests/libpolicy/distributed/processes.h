#pragma once

#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "libpolicy/distributed/communicator.h"
#include "tests/free_port.h"

namespace meed::testing {

/// How a process of run_processes() ended.
struct ProcessResult {
  bool killed = false;
  int exit_code = 0;   ///< 0: body returned; 1: it threw
  std::string output;  ///< what body returned, or the exception's message
};

/// Runs `body` in `size` processes that form a Gloo group; waits for all.
inline std::vector<ProcessResult> run_processes(
    int size, const std::function<std::string(Communicator&)>& body, double timeout_s = 60) {
  const int port = free_port();
  std::vector<pid_t> children;
  std::vector<int> pipes;
  for (int rank = 0; rank < size; ++rank) {
    int ends[2];
    if (::pipe(ends) != 0) std::abort();
    const pid_t child = ::fork();
    if (child == 0) {
      ::alarm(120);  // a hang fails the test instead of stopping it
      std::string output;
      int code = 0;
      std::unique_ptr<Communicator> comm;
      try {
        const LaunchEnv env{
            .rank = rank, .world_size = size, .local_rank = rank, .master_port = port};
        comm = Communicator::create(env, at::kCPU, size > 1 ? "gloo" : "single", timeout_s);
        output = body(*comm);
      } catch (const std::exception& e) {
        output = e.what();
        code = 1;
        if (comm) comm->abort(output);
      }
      comm.reset();
      (void)!::write(ends[1], output.data(), output.size());
      ::_exit(code);
    }
    ::close(ends[1]);
    children.push_back(child);
    pipes.push_back(ends[0]);
  }
  std::vector<ProcessResult> results(static_cast<size_t>(size));
  for (size_t i = 0; i < results.size(); ++i) {
    char buffer[4096];
    for (ssize_t n = 0; (n = ::read(pipes[i], buffer, sizeof(buffer))) > 0;)
      results[i].output.append(buffer, static_cast<size_t>(n));
    ::close(pipes[i]);
    int status = 0;
    ::waitpid(children[i], &status, 0);
    results[i].killed = WIFSIGNALED(status);
    results[i].exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }
  return results;
}

}  // namespace meed::testing
