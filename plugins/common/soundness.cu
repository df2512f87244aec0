// One pass over all heads behind a decoder's kernels: is every number finite?
#include "common/soundness.h"

#include "common/decoder.h"
#include "common/kernels.h"

namespace trt_lane {
namespace {

constexpr int kThreads = 256;
constexpr int kMostBlocks = 64;  // of a frame; beyond it the memory is the limit, not the threads

// __grid_constant__: heads are found by a running index, without a copy in local memory.
template <typename T>
__global__ void __launch_bounds__(kThreads)
    soundness_kernel(Heads const __grid_constant__ heads, HeadSizes const __grid_constant__ sizes,
                     std::int32_t* __restrict__ count) {
    bool sound = true;
    for (int head = 0; head < sizes.heads; ++head) {
        if (!heads.data[head]) continue;
        std::int64_t const size = sizes.size[head];
        T const* numbers = heads.as<T>(head) + blockIdx.y * size;
        std::int64_t const step = static_cast<std::int64_t>(gridDim.x) * kThreads;
        for (std::int64_t i = blockIdx.x * kThreads + threadIdx.x; i < size; i += step) {
            sound = sound && finite(to_float(numbers[i]));
        }
    }
    // Whoever comes first sets the same bit.
    if (!sound) atomicOr(&count[2 * blockIdx.y + 1], kUnsound);
}

}  // namespace

cudaError_t launch_soundness(Heads const& heads, HeadSizes const& sizes, int batch,
                             std::int32_t* count, cudaStream_t stream) {
    std::int64_t largest = 1;
    for (int head = 0; head < sizes.heads; ++head) {
        if (sizes.size[head] > largest) largest = sizes.size[head];
    }
    std::int64_t const wanted = (largest + kThreads - 1) / kThreads;
    dim3 const blocks(static_cast<unsigned>(wanted < kMostBlocks ? wanted : kMostBlocks), batch);
    return by_type(heads, [&](auto number) {
        return launch(soundness_kernel<decltype(number)>, blocks, dim3(kThreads), stream, heads,
                      sizes, count);
    });
}

}  // namespace trt_lane
