// Runs CUDA kernels on a CPU, for tests: g++ compiles a .cu with `-x c++ -include cpu_execution.h`.
//
// Every CUDA thread is a fiber; a block's fibers run one at a time, each until it waits at a
// barrier or a warp function. Which goes first is drawn anew by seed at every turn, so that a
// result that needs a missing barrier changes with the seed. Shared memory starts as garbage, in a
// heap block of exactly its size, so that AddressSanitizer sees what leaves it. What CUDA leaves
// undefined is an error here: a barrier that not all threads reach, or reach in different lines; a
// warp function whose mask names a lane that does not come; a shuffle from outside the mask.
#pragma once

#define LANE_CPU_EXECUTION 1

#include <cstdint>
#include <cstring>
#include <tuple>
#include <type_traits>
#include <utility>

#include "cpu_block.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __grid_constant__
#define __launch_bounds__(...)

enum cudaError_t {
    cudaSuccess = 0,
    cudaErrorInvalidValue = 1,
    cudaErrorInvalidConfiguration = 9,
    cudaErrorLaunchFailure = 719
};
struct CUstream_st;
using cudaStream_t = CUstream_st*;

namespace cpu_execution {

template <typename T>
std::uint64_t packed(T value) {
    static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= sizeof(std::uint64_t));
    std::uint64_t bits = 0;
    std::memcpy(&bits, &value, sizeof value);
    return bits;
}

template <typename T>
T shuffled(std::uint32_t mask, T value, unsigned source, int line) {
    std::uint64_t const* given = running->exchange(mask, packed(value), line);
    if (!(mask >> source & 1)) running->fail("a shuffle from a lane outside its mask", line);
    T result;
    std::memcpy(&result, &given[source], sizeof result);
    return result;
}

inline std::uint32_t votes(std::uint32_t mask, bool vote, int line) {
    std::uint64_t const* given = running->exchange(mask, vote, line);
    std::uint32_t result = 0;
    for (unsigned lane = 0; lane < kWarp; ++lane) {
        if (mask >> lane & 1 && given[lane]) result |= 1u << lane;
    }
    return result;
}

}  // namespace cpu_execution

#define threadIdx (cpu_execution::running->block.at(cpu_execution::running->current->index))
#define blockIdx (cpu_execution::running->index)
#define blockDim (cpu_execution::running->block)
#define gridDim (cpu_execution::running->grid)
#define LANE_SHARED(Type, name) \
    Type& name = *static_cast<Type*>(cpu_execution::running->shared_memory(sizeof(Type)))

// ---- what CUDA gives to kernels ---------------------------------------------------------------

inline void __syncthreads(int line = __builtin_LINE()) {
    cpu_execution::running->wait(cpu_execution::State::kAtBarrier, line);
}
inline void __syncwarp(std::uint32_t mask = ~0u, int line = __builtin_LINE()) {
    cpu_execution::running->exchange(mask, 0, line);
}
inline std::uint32_t __ballot_sync(std::uint32_t mask, int vote, int line = __builtin_LINE()) {
    return cpu_execution::votes(mask, vote != 0, line);
}
inline int __any_sync(std::uint32_t mask, int vote, int line = __builtin_LINE()) {
    return cpu_execution::votes(mask, vote != 0, line) != 0;
}
inline int __all_sync(std::uint32_t mask, int vote, int line = __builtin_LINE()) {
    return cpu_execution::votes(mask, vote == 0, line) == 0;
}
template <typename T>
T __shfl_sync(std::uint32_t mask, T value, int source, int line = __builtin_LINE()) {
    return cpu_execution::shuffled(mask, value, source & 31, line);
}
template <typename T>
T __shfl_xor_sync(std::uint32_t mask, T value, int with, int line = __builtin_LINE()) {
    unsigned const lane = cpu_execution::running->current->lane();
    return cpu_execution::shuffled(mask, value, (lane ^ with) & 31, line);
}
template <typename T>
T __shfl_down_sync(std::uint32_t mask, T value, unsigned by, int line = __builtin_LINE()) {
    unsigned const lane = cpu_execution::running->current->lane();
    return cpu_execution::shuffled(mask, value, lane + by < 32 ? lane + by : lane, line);
}
template <typename T>
T __shfl_up_sync(std::uint32_t mask, T value, unsigned by, int line = __builtin_LINE()) {
    unsigned const lane = cpu_execution::running->current->lane();
    return cpu_execution::shuffled(mask, value, lane >= by ? lane - by : lane, line);
}

inline int __popc(unsigned bits) { return __builtin_popcount(bits); }
inline int __ffs(int bits) { return __builtin_ffs(bits); }
inline int __clz(int bits) { return bits ? __builtin_clz(static_cast<unsigned>(bits)) : 32; }

// Whole numbers only: float atomics would put the order of threads into the result.
inline int atomicAdd(int* at, int value) { return std::exchange(*at, *at + value); }
inline int atomicMin(int* at, int value) { return std::exchange(*at, std::min(*at, value)); }
inline int atomicMax(int* at, int value) { return std::exchange(*at, std::max(*at, value)); }
inline int atomicOr(int* at, int value) { return std::exchange(*at, *at | value); }

using std::max;
using std::min;

// ---- launching --------------------------------------------------------------------------------

namespace trt_lane {

template <typename... Parameters, typename... Arguments>
cudaError_t launch(void (*kernel)(Parameters...), dim3 blocks, dim3 threads, cudaStream_t,
                   Arguments... arguments) {
    static_assert((sizeof(Parameters) + ...) <= cpu_execution::kMostParameters);
    if (blocks.size() == 0 || threads.size() == 0 || blocks.y > 65535 || blocks.z > 65535 ||
        threads.size() > cpu_execution::kMostThreads || threads.z > 64) {
        return cudaErrorInvalidConfiguration;
    }
    std::vector<unsigned> order(blocks.size());
    for (unsigned i = 0; i < order.size(); ++i) order[i] = i;
    cpu_execution::machine().shuffle(order);
    std::tuple<std::decay_t<Parameters>...> const parameters(arguments...);
    try {
        for (unsigned i : order) {
            cpu_execution::Block block;
            block.grid = blocks;
            block.block = threads;
            block.index = blocks.at(i);
            block.run([&] { std::apply(kernel, parameters); });
        }
    } catch (std::runtime_error const& error) {
        cpu_execution::running = nullptr;
        cpu_execution::machine().message = error.what();
        return cudaErrorLaunchFailure;
    }
    return cudaSuccess;
}

}  // namespace trt_lane

inline cudaError_t cudaGetLastError() { return cudaSuccess; }
inline char const* cudaGetErrorString(cudaError_t error) {
    if (error == cudaSuccess) return "no error";
    if (error == cudaErrorLaunchFailure) return cpu_execution::machine().message.c_str();
    return error == cudaErrorInvalidConfiguration ? "invalid configuration" : "invalid value";
}

// Draws the order of threads anew; called through ctypes.
extern "C" __attribute__((used, visibility("default"))) inline void lane_execution_seed(
    unsigned seed) {
    cpu_execution::machine().random.seed(seed);
}
