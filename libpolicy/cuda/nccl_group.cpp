// libmeed_cuda.so: everything that needs CUDA, opened by core/cuda_library.cpp only where it is
// asked for.

#include <c10/cuda/CUDAFunctions.h>

#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>

/// c10d's NCCL group on GPU `device` of this machine. Throws c10::Error if there is no such GPU.
extern "C" c10d::Backend* meed_make_nccl_group(c10d::Store* store, int rank, int size, int device,
                                               int64_t timeout_ms) {
  const int count = c10::cuda::device_count_ensure_non_zero();
  TORCH_CHECK(device < count, "local rank ", device, " has no GPU of its own: this machine has ",
              count, "; start at most that many processes on it");
  c10::cuda::set_device(static_cast<c10::DeviceIndex>(device));
  auto options = c10d::ProcessGroupNCCL::Options::create();
  options->timeout = std::chrono::milliseconds(timeout_ms);
  auto group = c10::make_intrusive<c10d::ProcessGroupNCCL>(
      c10::intrusive_ptr<c10d::Store>::reclaim_copy(store), rank, size, options);
  group->setBoundDeviceId(at::Device(at::kCUDA, static_cast<c10::DeviceIndex>(device)));
  return group.release();
}
