#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>

#include <cstdlib>

#include "libpolicy/distributed/backends.h"
#include "libpolicy/distributed/process_group.h"

namespace meed {
namespace {

c10::intrusive_ptr<c10d::Backend> make_gloo_group(c10::intrusive_ptr<c10d::Store> store, int rank,
                                                  int size, std::chrono::milliseconds timeout) {
  auto options = c10d::ProcessGroupGloo::Options::create(timeout);
  options->threads = 2;
  const char* interface = std::getenv("GLOO_SOCKET_IFNAME");
  options->devices.push_back(interface != nullptr && *interface != '\0'
                                 ? c10d::ProcessGroupGloo::createDeviceForInterface(interface)
                                 : c10d::ProcessGroupGloo::createDefaultDevice());
  return c10::make_intrusive<c10d::ProcessGroupGloo>(store, rank, size, options);
}

}  // namespace

std::unique_ptr<Communicator> create_gloo_communicator(const LaunchEnv& env, double timeout_s) {
  return create_process_group_communicator(env, at::kCPU, "gloo", make_gloo_group, timeout_s);
}

}  // namespace meed
