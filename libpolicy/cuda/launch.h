#pragma once

#include <cuda_runtime.h>

namespace meed::cuda {

/// What kernels need of LibTorch, whose headers stay out of .cu files.
cudaStream_t current_stream();
/// Throws c10::Error if the last launch failed.
void check_launch();

}  // namespace meed::cuda
