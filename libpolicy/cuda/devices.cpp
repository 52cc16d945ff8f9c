// libmeed_cuda.so: everything that needs CUDA, opened by core/cuda_library.cpp only where it is
// asked for.

#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAFunctions.h>

/// GPUs that this process sees; 0 without a driver.
extern "C" int meed_num_gpus() { return c10::cuda::device_count(); }

/// The most memory that tensors took on a GPU so far.
extern "C" int64_t meed_gpu_peak_bytes(int device) {
  const auto stats =
      c10::cuda::CUDACachingAllocator::getDeviceStats(static_cast<c10::DeviceIndex>(device));
  return stats.allocated_bytes[static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE)]
      .peak;
}
