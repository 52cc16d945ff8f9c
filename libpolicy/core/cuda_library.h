#pragma once

#include <c10/core/Device.h>

#include <cstdint>
#include <string>

namespace meed {

/// Opens libmeed_cuda.so (libpolicy/cuda), which brings LibTorch's GPU kernels and NCCL: from
/// beside this library, or from where the system looks. All that needs CUDA is in it, so that one
/// build runs with and without a GPU. Once for the process; call it before any tensor is made on a
/// GPU. Returns dlopen's handle. Throws ConfigError that says what is missing; `asked_by` is the key
/// that needs it ("model.device: cuda").
void* load_cuda_library(const std::string& asked_by);

/// Something that the library exports. Throws ConfigError where it does not: another version's.
void* cuda_symbol(const char* name, const std::string& asked_by);

/// GPUs that this process sees. Loads the library.
int num_gpus(const std::string& asked_by);

/// The most memory that tensors took on a GPU so far, in bytes.
int64_t gpu_peak_bytes(at::Device gpu);

/// "cpu", or "cuda": the GPU of this process, by its rank on this machine. Throws ConfigError where
/// there is no such GPU.
at::Device parse_device(const std::string& name, int local_rank);

}  // namespace meed
