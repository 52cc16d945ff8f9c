#include "libpolicy/distributed/communicator.h"

#include <ATen/ATen.h>

#include <charconv>
#include <cstdlib>
#include <cstring>

#include "libpolicy/core/error.h"
#include "libpolicy/distributed/backends.h"

namespace meed {
namespace {

std::optional<std::string> variable(const char* name) {
  const char* value = std::getenv(name);
  if (value == nullptr || *value == '\0') return std::nullopt;
  return value;
}

int number(const char* name) {
  const auto text = variable(name);
  if (!text)
    throw ConfigError(std::string("environment: ") + name +
                      " is missing; the launcher must set it");
  int value = 0;
  const auto [stop, error] = std::from_chars(text->data(), text->data() + text->size(), value);
  if (error != std::errc() || stop != text->data() + text->size() || value < 0)
    throw ConfigError(std::string("environment: ") + name + ": expected a natural number, got \"" +
                      *text + "\"");
  return value;
}

/// First host of a Slurm list: "node[03-07,9],other" -> "node03".
std::string first_host(const std::string& list) {
  const auto bracket = list.find('[');
  const auto comma = list.find(',');
  if (bracket == std::string::npos || (comma != std::string::npos && comma < bracket))
    return list.substr(0, comma);
  const auto end = list.find_first_of("-,]", bracket);
  return list.substr(0, bracket) + list.substr(bracket + 1, end - bracket - 1);
}

void address_from_environment(LaunchEnv& env, const std::string& fallback_host, int fallback_port) {
  env.master_addr = variable("MASTER_ADDR").value_or(fallback_host);
  env.master_port = variable("MASTER_PORT") ? number("MASTER_PORT") : fallback_port;
}

constexpr int kDefaultPort = 29500;

/// One process: every collective is the identity.
class SingleCommunicator final : public Communicator {
 public:
  int rank() const override { return 0; }
  int size() const override { return 1; }
  void all_reduce(at::Tensor&, ReduceOp) override {}
  void broadcast(at::Tensor&, int) override {}
  at::Tensor all_gather(const at::Tensor& tensor) override { return tensor.unsqueeze(0); }
  std::vector<std::string> all_gather(const std::string& bytes) override { return {bytes}; }
  void barrier() override {}
  void abort(const std::string&) override {}
  std::unique_ptr<Communicator> split(int) override {
    return std::make_unique<SingleCommunicator>();
  }
};

}  // namespace

LaunchEnv LaunchEnv::from_environment() {
  LaunchEnv env;
  if (variable("WORLD_SIZE") || variable("RANK")) {
    env = {.rank = number("RANK"), .world_size = number("WORLD_SIZE"), .launcher = "torchrun"};
    env.local_rank = variable("LOCAL_RANK") ? number("LOCAL_RANK") : env.rank;
    address_from_environment(env, "127.0.0.1", kDefaultPort);
  } else if (variable("OMPI_COMM_WORLD_SIZE")) {
    env = {.rank = number("OMPI_COMM_WORLD_RANK"),
           .world_size = number("OMPI_COMM_WORLD_SIZE"),
           .launcher = "openmpi"};
    env.local_rank = number("OMPI_COMM_WORLD_LOCAL_RANK");
    if (env.world_size > 1 && !variable("MASTER_ADDR") && env.local_rank != env.rank)
      throw ConfigError(
          "environment: MASTER_ADDR is missing; with Open MPI on several hosts set it to the first "
          "(mpirun -x MASTER_ADDR=...)");
    address_from_environment(env, "127.0.0.1", kDefaultPort);
  } else if (variable("SLURM_PROCID") && variable("SLURM_NTASKS") && variable("SLURM_STEP_ID")) {
    env = {
        .rank = number("SLURM_PROCID"), .world_size = number("SLURM_NTASKS"), .launcher = "slurm"};
    env.local_rank = number("SLURM_LOCALID");
    constexpr int kPorts = 10000;  // jobs on one host should not meet
    const int job = variable("SLURM_JOB_ID") ? number("SLURM_JOB_ID") : 0;
    const auto nodes =
        variable("SLURM_STEP_NODELIST").value_or(variable("SLURM_NODELIST").value_or("127.0.0.1"));
    address_from_environment(env, first_host(nodes), kDefaultPort + job % kPorts);
  }
  if (env.world_size < 1 || env.rank >= env.world_size)
    throw ConfigError("environment: rank " + std::to_string(env.rank) + " of " +
                      std::to_string(env.world_size) + " processes makes no sense");
  return env;
}

std::unique_ptr<Communicator> Communicator::create(const LaunchEnv& env, at::Device device,
                                                   const std::string& backend, double timeout_s) {
  if (backend == "single" || (backend == "auto" && env.world_size == 1)) {
    if (env.world_size > 1)
      throw ConfigError("run.backend: single, but the launcher started " +
                        std::to_string(env.world_size) + " processes");
    return std::make_unique<SingleCommunicator>();
  }
  if (backend == "nccl" || (backend == "auto" && device.is_cuda()))
    return create_nccl_communicator(env, device, timeout_s);
  if (backend == "gloo" || backend == "auto") return create_gloo_communicator(env, timeout_s);
  throw ConfigError("run.backend: unknown backend \"" + backend + "\"");
}

std::vector<at::Tensor> all_gather_ragged(Communicator& comm, const at::Tensor& tensor) {
  const auto mine = tensor.detach().contiguous();
  const std::string bytes(static_cast<const char*>(mine.const_data_ptr()), mine.nbytes());
  auto sizes = mine.sizes().vec();
  std::vector<at::Tensor> all;
  for (const auto& theirs : comm.all_gather(bytes)) {
    sizes[0] = 1;
    const auto row = static_cast<int64_t>(mine.element_size()) * c10::multiply_integers(sizes);
    sizes[0] = row > 0 ? static_cast<int64_t>(theirs.size()) / row : 0;
    all.push_back(at::empty(sizes, mine.options()));
    std::memcpy(all.back().mutable_data_ptr(), theirs.data(), theirs.size());
  }
  return all;
}

}  // namespace meed
