#pragma once

#include <memory>

#include "libpolicy/distributed/communicator.h"

namespace meed {

/// c10d's Gloo over TCP, for CPU tensors.
std::unique_ptr<Communicator> create_gloo_communicator(const LaunchEnv& env, double timeout_s);

/// c10d's NCCL, from libmeed_cuda.so which is loaded here. Throws ConfigError where the library or
/// a GPU is missing.
std::unique_ptr<Communicator> create_nccl_communicator(const LaunchEnv& env, at::Device device,
                                                       double timeout_s);

}  // namespace meed
