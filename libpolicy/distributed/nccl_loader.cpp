#include "libpolicy/core/cuda_library.h"
#include "libpolicy/core/error.h"
#include "libpolicy/distributed/backends.h"
#include "libpolicy/distributed/process_group.h"

namespace meed {

namespace {

/// What libmeed_cuda.so exports (cuda/nccl_group.cpp): a group that the caller owns.
using MakeNcclGroup = c10d::Backend* (*)(c10d::Store* store, int rank, int size, int device,
                                         int64_t timeout_ms);

}  // namespace

std::unique_ptr<Communicator> create_nccl_communicator(const LaunchEnv& env, at::Device device,
                                                       double timeout_s) {
  const auto make =
      reinterpret_cast<MakeNcclGroup>(cuda_symbol("meed_make_nccl_group", "run.backend: nccl"));
  const at::Device gpu(at::kCUDA, static_cast<c10::DeviceIndex>(
                                      device.has_index() ? device.index() : env.local_rank));
  return create_process_group_communicator(
      env, gpu, "nccl",
      [make, gpu](c10::intrusive_ptr<c10d::Store> store, int rank, int size,
                  std::chrono::milliseconds timeout) {
        return c10::intrusive_ptr<c10d::Backend>::reclaim(
            make(store.get(), rank, size, gpu.index(), timeout.count()));
      },
      timeout_s);
}

}  // namespace meed
