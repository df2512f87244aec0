// cudaError_t and cudaStream_t: CUDA's own where kernels are compiled, stand-ins on a host without.
#pragma once

#if defined(LANE_CPU_EXECUTION)
// tests/plugins/cpu_execution.h, which g++ includes first, has them.
#elif defined(TRT_LANE_KERNELS)
#include <cuda_runtime_api.h>
#else
using cudaError_t = int;
using cudaStream_t = void*;
#endif
