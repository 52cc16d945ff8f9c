# Makes the imported target meed::torch (ATen, c10, c10d on the CPU) from an unpacked torch wheel.
# LIBTORCH_ROOT: the folder that holds include/ and lib/.
set(LIBTORCH_ROOT "${MEED_DEPS_DIR}/libtorch" CACHE PATH "unpacked torch wheel: the folder with include/ and lib/")
find_library(MEED_TORCH_CPU torch_cpu PATHS ${LIBTORCH_ROOT}/lib NO_DEFAULT_PATH REQUIRED)
find_library(MEED_C10 c10 PATHS ${LIBTORCH_ROOT}/lib NO_DEFAULT_PATH REQUIRED)
# The wheel's libtorch_cpu refers to libcudart and libcupti even where no GPU is.
find_library(MEED_CUDART NAMES cudart libcudart.so.13 PATHS ${MEED_DEPS_DIR}/cuda-cudart /usr/local/cuda/lib64 REQUIRED)
find_library(MEED_CUPTI NAMES cupti libcupti.so.13 PATHS ${MEED_DEPS_DIR}/cuda-cupti /usr/local/cuda/lib64 /usr/local/cuda/lib /usr/local/cuda/extras/CUPTI/lib64 REQUIRED)
add_library(meed_torch INTERFACE)
add_library(meed::torch ALIAS meed_torch)
target_include_directories(meed_torch SYSTEM INTERFACE ${LIBTORCH_ROOT}/include ${LIBTORCH_ROOT}/include/torch/csrc/api/include)
target_link_libraries(meed_torch INTERFACE ${MEED_TORCH_CPU} ${MEED_C10} ${MEED_CUDART} ${MEED_CUPTI})
