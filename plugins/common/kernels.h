// What the kernels of decoders and their launchers share. Included by .cu files.
#pragma once

#include "common/launch.h"
#include "common/soundness.h"

namespace trt_lane {

// Kernels one after the other on a stream; after one that does not start, no more are started.
class Kernels {
public:
    explicit Kernels(cudaStream_t stream) : stream_(stream) {}

    template <typename... Parameters, typename... Arguments>
    Kernels& then(void (*kernel)(Parameters...), dim3 blocks, dim3 threads,
                  Arguments... arguments) {
        if (status_ == cudaSuccess) {
            status_ = launch(kernel, blocks, threads, stream_, arguments...);
        }
        return *this;
    }
    cudaError_t status() const { return status_; }

private:
    cudaStream_t stream_;
    cudaError_t status_ = cudaSuccess;
};

// Calls `start` with a number of the heads' type.
template <typename Function>
auto by_type(Heads const& heads, Function const& start) {
    return heads.type == HeadType::kHalf ? start(Half{}) : start(0.0f);
}

// How many threads of the block before this one have something, and how many have in all.
template <int kThreads>
__device__ __forceinline__ int rank_in_block(bool here, int thread, int (&of_warp)[kThreads / 32],
                                             int& total) {
    unsigned const mask = __ballot_sync(~0u, here);
    if (thread % 32 == 0) of_warp[thread / 32] = __popc(mask);
    __syncthreads();
    int rank = __popc(mask & ((1u << thread % 32) - 1u));
    total = 0;
    for (int w = 0; w < kThreads / 32; ++w) {
        if (w < thread / 32) rank += of_warp[w];
        total += of_warp[w];
    }
    __syncthreads();
    return rank;
}

}  // namespace trt_lane
