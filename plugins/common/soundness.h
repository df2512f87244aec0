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

// Zero of every finite number, and only of these.
inline std::uint32_t unsound_bits(float value) { return float_bits(value - value); }
inline std::uint32_t unsound_bits(Half value) { return !finite(value); }

// Whether all of a head's numbers in one frame are finite.
template <typename T>
bool all_finite(T const* numbers, std::int64_t size) {
    // Bits, whose "or" may be taken in any order, and in so many places that none waits for itself.
    constexpr int kSide = 32;
    std::uint32_t bits[kSide] = {}, unsound = 0;
    std::int64_t i = 0;
    for (; i + kSide <= size; i += kSide) {
        for (int k = 0; k < kSide; ++k) bits[k] |= unsound_bits(numbers[i + k]);
    }
    for (; i < size; ++i) unsound |= unsound_bits(numbers[i]);
    for (std::uint32_t const found : bits) unsound |= found;
    return !unsound;
}

}  // namespace trt_lane
