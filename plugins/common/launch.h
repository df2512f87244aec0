// Starting a kernel: the only place with <<<>>>, which g++ does not know.
#pragma once

#include "common/cuda_types.h"

#ifndef LANE_CPU_EXECUTION

namespace trt_lane {

// Runs `kernel` on `blocks` of `threads`; no synchronisation. The launch's own error, if any.
template <typename... Parameters, typename... Arguments>
cudaError_t launch(void (*kernel)(Parameters...), dim3 blocks, dim3 threads, cudaStream_t stream,
                   Arguments... arguments) {
    kernel<<<blocks, threads, 0, stream>>>(arguments...);
    return cudaGetLastError();
}

}  // namespace trt_lane

// Memory shared by a block, as a struct; at most one per kernel.
#define LANE_SHARED(Type, name) __shared__ Type name

#endif
