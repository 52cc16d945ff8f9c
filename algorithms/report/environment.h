#pragma once

#include <string>
#include <vector>

namespace meed {

struct MemoryUse {
  double rss_mb = 0;       ///< MiB now
  double peak_rss_mb = 0;  ///< MiB, the most so far
};
MemoryUse memory_use();  ///< Of this process; 0 where the system does not say.

/// Name of the processor; "" where the system does not say.
std::string cpu_model();
/// The processor's instruction sets that decide how fast the CPU kernels are, such as avx2.
std::vector<std::string> cpu_features();

/// Commit of the repository that holds the running program; "" if it is not in one.
std::string program_commit();

/// What a run ran on, as a JSON object: versions, processor and its features, memory, host, commit,
/// command line, launcher, number of processes and threads, start time (UTC).
std::string describe_environment(const std::vector<std::string>& command_line, int world_size);

}  // namespace meed
