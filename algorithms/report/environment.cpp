#include "algorithms/report/environment.h"

#include <ATen/Parallel.h>
#include <sys/utsname.h>
#include <torch/headeronly/version.h>
#include <unistd.h>

#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "libpolicy/distributed/communicator.h"

namespace meed {
namespace {

namespace fs = std::filesystem;

/// The text after "`key` ... :" in a file of such lines; "" if absent.
std::string value_of(const char* file, const std::string& key) {
  std::ifstream in(file);
  for (std::string line; std::getline(in, line);) {
    if (line.rfind(key, 0) != 0) continue;
    const auto start = line.find_first_not_of(" \t", line.find(':') + 1);
    return start == std::string::npos ? "" : line.substr(start);
  }
  return "";
}

std::string first_line(const fs::path& file) {
  std::ifstream in(file);
  std::string line;
  std::getline(in, line);
  return line;
}

/// The folder that holds HEAD: .git itself, or where a worktree's .git file points.
fs::path git_folder(fs::path start) {
  for (;; start = start.parent_path()) {
    const fs::path git = start / ".git";
    std::error_code error;
    if (fs::is_directory(git, error)) return git;
    if (fs::is_regular_file(git, error)) {
      const std::string line = first_line(git);
      constexpr std::string_view kPrefix = "gitdir: ";
      return line.rfind(kPrefix, 0) == 0 ? start / line.substr(kPrefix.size()) : fs::path();
    }
    if (start == start.parent_path()) return {};
  }
}

std::string resolve_reference(const fs::path& git, const std::string& name) {
  if (const std::string hash = first_line(git / name); !hash.empty()) return hash;
  std::ifstream packed(git / "packed-refs");
  for (std::string line; std::getline(packed, line);)
    if (line.size() > name.size() + 1 &&
        line.compare(line.size() - name.size() - 1, std::string::npos, " " + name) == 0)
      return line.substr(0, line.find(' '));
  return "";
}

std::string utc_now() {
  const std::time_t now = std::time(nullptr);
  std::tm utc{};
  gmtime_r(&now, &utc);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &utc);
  return text;
}

double kib_as_mib(const std::string& text) { return std::atof(text.c_str()) / 1024; }

}  // namespace

MemoryUse memory_use() {
  return {.rss_mb = kib_as_mib(value_of("/proc/self/status", "VmRSS")),
          .peak_rss_mb = kib_as_mib(value_of("/proc/self/status", "VmHWM"))};
}

std::string cpu_model() { return value_of("/proc/cpuinfo", "model name"); }

std::vector<std::string> cpu_features() {
  std::istringstream flags(value_of("/proc/cpuinfo", "flags"));
  std::vector<std::string> found;
  for (std::string flag; flags >> flag;)
    if (flag == "avx2" || flag == "fma" || flag == "avx512f" || flag == "avx512_bf16" ||
        flag == "avx512_vnni" || flag == "amx_bf16" || flag == "amx_tile")
      found.push_back(flag);
  return found;
}

std::string program_commit() {
  std::error_code error;
  const fs::path program = fs::read_symlink("/proc/self/exe", error);
  if (error) return "";
  const fs::path git = git_folder(program.parent_path());
  if (git.empty()) return "";
  const std::string head = first_line(git / "HEAD");
  constexpr std::string_view kReference = "ref: ";
  if (head.rfind(kReference, 0) != 0) return head;
  const std::string name = head.substr(kReference.size());
  if (const std::string hash = resolve_reference(git, name); !hash.empty()) return hash;
  const std::string common = first_line(git / "commondir");
  return common.empty() ? "" : resolve_reference(git / common, name);
}

std::string describe_environment(const std::vector<std::string>& command_line, int world_size) {
  utsname system{};
  ::uname(&system);
  nlohmann::ordered_json json;
  json["started"] = utc_now();
  json["command_line"] = command_line;
  json["meed"] = MEED_VERSION;
  json["commit"] = program_commit();
  json["libtorch"] = TORCH_VERSION;
  json["compiler"] = __VERSION__;
  json["system"] = std::string(system.sysname) + " " + system.release + " " + system.machine;
  json["host"] = system.nodename;
  json["cpu"] = cpu_model();
  json["cpu_features"] = cpu_features();
  json["num_cpus"] = ::sysconf(_SC_NPROCESSORS_ONLN);
  json["memory_mb"] = static_cast<int64_t>(kib_as_mib(value_of("/proc/meminfo", "MemTotal")));
  json["world_size"] = world_size;
  json["launcher"] = LaunchEnv::from_environment().launcher;
  json["num_threads"] = at::get_num_threads();
  return json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace meed
