// Small kernels, right and wrong ones, for test_cpu_execution.py.
#include <cstdint>

#include "common/launch.h"

namespace {

constexpr int kThreads = 256;

struct Values {
    int value[kThreads];
};

__global__ void indices(int* out) {
    out[blockIdx.x * blockDim.x * blockDim.y + threadIdx.y * blockDim.x + threadIdx.x] =
        static_cast<int>(100 * blockIdx.x + threadIdx.y * blockDim.x + threadIdx.x);
}

__global__ void reversed(int* out, bool with_barrier) {
    LANE_SHARED(Values, shared);
    int const thread = threadIdx.x;
    shared.value[thread] = thread;
    if (with_barrier) __syncthreads();
    out[thread] = shared.value[kThreads - 1 - thread];
}

__global__ void warp(int* out) {
    int const lane = threadIdx.x;
    out[lane] = __shfl_sync(~0u, lane, lane + 1);
    out[32 + lane] = __shfl_xor_sync(~0u, lane, 5);
    out[64 + lane] = __shfl_down_sync(~0u, lane, 3);
    out[96 + lane] = __shfl_up_sync(~0u, lane, 3);
    out[128 + lane] = static_cast<int>(__ballot_sync(~0u, lane % 2 == 0 && lane < 29));
    out[160 + lane] = __any_sync(~0u, lane == 7);
    out[192 + lane] = __all_sync(~0u, lane != 7);
    int sum = lane;
    for (int step = 16; step; step /= 2) sum += __shfl_xor_sync(~0u, sum, step);
    out[224 + lane] = sum;
}

__global__ void barrier_in_branch(int* out) {
    if (threadIdx.x < 40) {
        __syncthreads();
    } else {
        out[threadIdx.x] = 1;
        __syncthreads();
    }
}

__global__ void ended_before_barrier(int* out) {
    if (threadIdx.x == 3) return;
    __syncthreads();
    out[threadIdx.x] = 1;
}

__global__ void shuffle_from_outside(int* out) {
    if (threadIdx.x < 16) {
        out[threadIdx.x] = __shfl_sync(0xffffu, static_cast<int>(threadIdx.x), 20);
    }
}

__global__ void lane_missing(int* out) {
    if (threadIdx.x != 9) out[threadIdx.x] = __any_sync(~0u, 1);
}

__global__ void unwritten_shared(int* out) {
    LANE_SHARED(Values, shared);
    out[threadIdx.x] = shared.value[threadIdx.x];
}

__global__ void beyond_shared(int* out, int by) {
    LANE_SHARED(Values, shared);
    out[threadIdx.x] = shared.value[threadIdx.x + by];
}

}  // namespace

#define RUN(name, blocks, threads, ...)                                             \
    extern "C" int run_##name(int* out) {                                           \
        return trt_lane::launch(name, dim3(blocks), threads, nullptr, __VA_ARGS__); \
    }

RUN(indices, 4, dim3(32, 2), out)
RUN(reversed, 1, dim3(kThreads), out, true)
RUN(warp, 1, dim3(32), out)
RUN(barrier_in_branch, 1, dim3(64), out)
RUN(ended_before_barrier, 1, dim3(64), out)
RUN(shuffle_from_outside, 1, dim3(32), out)
RUN(lane_missing, 1, dim3(32), out)
RUN(unwritten_shared, 1, dim3(kThreads), out)
RUN(beyond_shared, 1, dim3(kThreads), out, 1)
extern "C" int run_too_large(int* out) {
    return trt_lane::launch(indices, dim3(1), dim3(2048), nullptr, out);
}

extern "C" int run_reversed_without_barrier(int* out) {
    return trt_lane::launch(reversed, dim3(1), dim3(kThreads), nullptr, out, false);
}

extern "C" char const* message() { return cpu_execution::machine().message.c_str(); }
