#include "libpolicy/core/cuda_library.h"

#include <dlfcn.h>

#include <filesystem>

#include "libpolicy/core/error.h"

namespace meed {
namespace {

void* open_library() {
  ::Dl_info here{};
  std::string beside = "libmeed_cuda.so";
  if (::dladdr(reinterpret_cast<void*>(&open_library), &here) != 0 && here.dli_fname != nullptr)
    beside = (std::filesystem::path(here.dli_fname).parent_path() / beside).string();
  void* library = ::dlopen(beside.c_str(), RTLD_NOW | RTLD_GLOBAL);
  if (library == nullptr && !std::filesystem::exists(beside))
    library = ::dlopen("libmeed_cuda.so", RTLD_NOW | RTLD_GLOBAL);
  return library;
}

}  // namespace

void* load_cuda_library(const std::string& asked_by) {
  static void* const library = open_library();
  if (library == nullptr) {
    const char* reason = ::dlerror();
    throw ConfigError(asked_by +
                      " needs a GPU and libmeed_cuda.so, which the preset `cuda` builds "
                      "(docs/building.md)" +
                      (reason == nullptr ? "" : ": " + std::string(reason)));
  }
  return library;
}

void* cuda_symbol(const char* name, const std::string& asked_by) {
  void* const symbol = ::dlsym(load_cuda_library(asked_by), name);
  if (symbol == nullptr)
    throw ConfigError(asked_by + ": libmeed_cuda.so is of another version; build it again");
  return symbol;
}

int num_gpus(const std::string& asked_by) {
  return reinterpret_cast<int (*)()>(cuda_symbol("meed_num_gpus", asked_by))();
}

int64_t gpu_peak_bytes(at::Device gpu) {
  const auto peak = reinterpret_cast<int64_t (*)(int)>(cuda_symbol("meed_gpu_peak_bytes", "a GPU"));
  return peak(gpu.index());
}

at::Device parse_device(const std::string& name, int local_rank) {
  if (name == "cpu") return at::kCPU;
  MEED_CHECK(name == "cuda", "unknown device \"" + name + "\"");
  const std::string asked_by = "model.device: cuda";
  const int count = num_gpus(asked_by);
  if (local_rank >= count)
    throw ConfigError(asked_by + ": process " + std::to_string(local_rank) +
                      " of this machine has no GPU of its own: there are " + std::to_string(count) +
                      "; start at most that many processes, or set model.device: cpu");
  return {at::kCUDA, static_cast<c10::DeviceIndex>(local_rank)};
}

}  // namespace meed
