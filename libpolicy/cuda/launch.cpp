#include "libpolicy/cuda/launch.h"

#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAStream.h>

namespace meed::cuda {

cudaStream_t current_stream() { return c10::cuda::getCurrentCUDAStream(); }
void check_launch() { C10_CUDA_KERNEL_LAUNCH_CHECK(); }

}  // namespace meed::cuda
