# Cross-compiles for Jetson and DRIVE: needs aarch64-linux-gnu-g++ and CUDA's cross packages.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)
set(CMAKE_CUDA_HOST_COMPILER aarch64-linux-gnu-g++)
set(CMAKE_CUDA_FLAGS_INIT "-target-dir aarch64-linux")
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
# Orin and Thor.
set(TRT_LANE_SM "87;110" CACHE STRING "compute capabilities, as 87 for sm_87")
