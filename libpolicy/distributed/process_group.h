#pragma once

// c10d's headers cost 10 s: only the backends include this one.
#include <torch/csrc/distributed/c10d/Backend.hpp>
#include <torch/csrc/distributed/c10d/Store.hpp>

#include <chrono>
#include <functional>
#include <memory>
#include <string>

#include "libpolicy/distributed/communicator.h"

namespace meed {

/// Makes c10d's group of `size` processes that meet in the store.
using GroupMaker = std::function<c10::intrusive_ptr<c10d::Backend>(
    c10::intrusive_ptr<c10d::Store> store, int rank, int size, std::chrono::milliseconds timeout)>;

/// The Communicator over any of c10d's backends: rendezvous (torchrun's store or one that rank 0
/// serves), a watch on the other processes, collectives that end with a DistributedError when one
/// of them dies. Tensors elsewhere than on `device` are copied there and back. Throws
/// DistributedError if the processes do not meet within the timeout.
std::unique_ptr<Communicator> create_process_group_communicator(const LaunchEnv& env,
                                                                at::Device device,
                                                                const std::string& name,
                                                                const GroupMaker& make_group,
                                                                double timeout_s);

}  // namespace meed
