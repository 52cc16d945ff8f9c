#include <dlfcn.h>

#include "libpolicy/core/error.h"
#include "libpolicy/distributed/backends.h"

namespace meed {

// libmeed_cuda.so exports one function that makes the communicator; it is linked against
// libtorch_cuda and NCCL, which a machine without a GPU need not have.
std::unique_ptr<Communicator> create_nccl_communicator(const LaunchEnv& env, at::Device device,
                                                       double timeout_s) {
  using Factory = Communicator* (*)(const LaunchEnv*, const at::Device*, double);
  void* library = ::dlopen("libmeed_cuda.so", RTLD_NOW | RTLD_GLOBAL);
  if (library == nullptr)
    throw ConfigError(
        std::string("run.backend: nccl needs a GPU and the library libmeed_cuda.so, which this build does not make; use gloo: ") +
        ::dlerror());
  const auto factory = reinterpret_cast<Factory>(::dlsym(library, "meed_create_nccl_communicator"));
  if (factory == nullptr)
    throw ConfigError("run.backend: libmeed_cuda.so is of another version; build it again");
  return std::unique_ptr<Communicator>(factory(&env, &device, timeout_s));
}

}  // namespace meed
