#include <dlfcn.h>

#include <filesystem>

#include "libpolicy/core/error.h"
#include "libpolicy/distributed/backends.h"
#include "libpolicy/distributed/process_group.h"

namespace meed {

namespace {

/// What libmeed_cuda.so exports (cuda/nccl_group.cpp): a group that the caller owns.
using MakeNcclGroup = c10d::Backend* (*)(c10d::Store* store, int rank, int size, int device,
                                         int64_t timeout_ms);

/// Loads libmeed_cuda.so from beside this library, or from where the system looks. It is linked
/// against libtorch_cuda and NCCL, which a machine without a GPU need not have.
MakeNcclGroup load() {
  ::Dl_info here{};
  std::string beside = "libmeed_cuda.so";
  if (::dladdr(reinterpret_cast<void*>(&load), &here) != 0 && here.dli_fname != nullptr)
    beside = (std::filesystem::path(here.dli_fname).parent_path() / beside).string();
  void* library = ::dlopen(beside.c_str(), RTLD_NOW | RTLD_GLOBAL);
  if (library == nullptr && !std::filesystem::exists(beside))
    library = ::dlopen("libmeed_cuda.so", RTLD_NOW | RTLD_GLOBAL);
  if (library == nullptr)
    throw ConfigError(
        "run.backend: nccl needs a GPU and libmeed_cuda.so, which the preset `cuda` builds "
        "(docs/building.md); use gloo without them: " +
        std::string(::dlerror()));
  const auto make = reinterpret_cast<MakeNcclGroup>(::dlsym(library, "meed_make_nccl_group"));
  if (make == nullptr)
    throw ConfigError("run.backend: libmeed_cuda.so is of another version; build it again");
  return make;
}

}  // namespace

std::unique_ptr<Communicator> create_nccl_communicator(const LaunchEnv& env, at::Device device,
                                                       double timeout_s) {
  const auto make = load();
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
