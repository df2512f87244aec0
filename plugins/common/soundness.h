// Says of every frame whether a head holds NaN or infinity: kUnsound in its overflow bits.
#pragma once

#include <cstdint>

#include "common/cuda_types.h"
#include "common/lane_hd.h"

namespace trt_lane {

constexpr int kMaxHeads = 8;

enum class HeadType : std::int32_t { kFloat = 0, kHalf = 1 };

// Heads of a batch, each contiguous (N, ...), all of one type; absent optional ones are nullptr.
struct Heads {
    void const* data[kMaxHeads];
    HeadType type;

    template <typename T>
    LANE_HD T const* as(int head) const {
        return static_cast<T const*>(data[head]);
    }
};

// Numbers of each head in one frame.
struct HeadSizes {
    std::int64_t size[kMaxHeads];
    int heads;
};

// Sets kUnsound in count (N, 2) behind the decoder's kernels, on the same stream.
cudaError_t launch_soundness(Heads const& heads, HeadSizes const& sizes, int batch,
                             std::int32_t* count, cudaStream_t stream);

// Whether all of a head's numbers in one frame are finite.
template <typename T>
bool all_finite(T const* numbers, std::int64_t size) {
    // Bits, whose "or" may be taken in any order: a sum of floats would wait for itself.
    std::uint32_t unsound = 0;
    for (std::int64_t i = 0; i < size; ++i) unsound |= !finite(numbers[i]);
    return !unsound;
}

}  // namespace trt_lane
