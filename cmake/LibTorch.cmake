# Makes the imported target meed::torch (ATen, c10, c10d on the CPU) from an unpacked torch wheel. The build includes it, and so does
# the installed package, which sets MEED_DEPS_DIR to what meed was built with.
# LIBTORCH_ROOT: the folder that holds include/ and lib/.
set(LIBTORCH_ROOT "${MEED_DEPS_DIR}/libtorch" CACHE PATH "unpacked torch wheel: the folder with include/ and lib/")
if(NOT EXISTS ${LIBTORCH_ROOT}/include/ATen/ATen.h)
  message(FATAL_ERROR "meed needs LibTorch 2.13, which is not in ${LIBTORCH_ROOT}. Run scripts/setup.sh of the project, or "
    "give -DLIBTORCH_ROOT=FOLDER, the folder with include/ and lib/ (in Python: python3 -c 'import torch; print(torch.__path__[0])').")
endif()
find_library(MEED_TORCH_CPU torch_cpu PATHS ${LIBTORCH_ROOT}/lib NO_DEFAULT_PATH REQUIRED)
find_library(MEED_C10 c10 PATHS ${LIBTORCH_ROOT}/lib NO_DEFAULT_PATH REQUIRED)
# The wheel's libtorch_cpu refers to libcudart and libcupti even where no GPU is.
find_library(MEED_CUDART NAMES cudart libcudart.so.13 PATHS ${MEED_DEPS_DIR}/cuda-cudart /usr/local/cuda/lib64)
find_library(MEED_CUPTI NAMES cupti libcupti.so.13 PATHS ${MEED_DEPS_DIR}/cuda-cupti /usr/local/cuda/lib64 /usr/local/cuda/lib /usr/local/cuda/extras/CUPTI/lib64)
if(NOT MEED_CUDART OR NOT MEED_CUPTI)
  message(FATAL_ERROR "LibTorch needs libcudart.so.13 and libcupti.so.13 even where no GPU is: run scripts/setup.sh of the project, or give "
    "-DMEED_CUDART=FILE and -DMEED_CUPTI=FILE")
endif()
add_library(meed::torch INTERFACE IMPORTED GLOBAL)
target_include_directories(meed::torch SYSTEM INTERFACE ${LIBTORCH_ROOT}/include ${LIBTORCH_ROOT}/include/torch/csrc/api/include)
target_link_libraries(meed::torch INTERFACE ${MEED_TORCH_CPU} ${MEED_C10} ${MEED_CUDART} ${MEED_CUPTI})
# at::parallel_for is a template in a header, and a plain loop where the compiler has OpenMP off.
target_compile_options(meed::torch INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-fopenmp>)
target_link_options(meed::torch INTERFACE -fopenmp)
