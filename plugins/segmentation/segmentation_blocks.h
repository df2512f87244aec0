// Segmentation on a CPU: what is done to a few columns of all classes at a time, in vector code.
#pragma once

#include "common/simd.h"
#include "segmentation/segmentation.h"

namespace trt_lane {

constexpr int kSegmentationBlock = 16;  // columns whose probabilities are found together

struct SegmentationBlock {
    float column[kSegmentationBlock];
};

// Logits of several classes in, their softmax out.
LANE_LOOP void segmentation_softmax_loop(SegmentationBlock* classes, int count) {
    SegmentationBlock largest = classes[0], sum{};
    for (int c = 1; c < count; ++c) {
        for (int x = 0; x < kSegmentationBlock; ++x) {
            float const logit = classes[c].column[x];
            largest.column[x] = logit > largest.column[x] ? logit : largest.column[x];
        }
    }
    for (int c = 0; c < count; ++c) {
        for (int x = 0; x < kSegmentationBlock; ++x) {
            float const weight = exp32(classes[c].column[x] - largest.column[x]);
            classes[c].column[x] = weight;
            sum.column[x] += weight;
        }
    }
    for (int c = 0; c < count; ++c) {
        for (int x = 0; x < kSegmentationBlock; ++x) classes[c].column[x] /= sum.column[x];
    }
}

// Interpolation along x of all columns of whole blocks; behind the last one, it goes on.
struct SegmentationAcross {
    std::vector<int> first, second;
    std::vector<float> first_weight, second_weight;

    SegmentationAcross(SegmentationParams const& p, int columns) {
        for (int x = 0; x < columns; ++x) {
            auto const taps = segmentation_taps(p.map_w, p.input_w, std::min(x, p.input_w - 1));
            first.push_back(taps.first);
            second.push_back(taps.second);
            first_weight.push_back(taps.first_weight);
            second_weight.push_back(taps.second_weight);
        }
    }
};

// A block of a row.
LANE_LOOP void segmentation_across_loop(SegmentationAcross const& across, int begin,
                                        float const* row, float* out) {
    float left[kSegmentationBlock], right[kSegmentationBlock];
    for (int x = 0; x < kSegmentationBlock; ++x) {  // so that what follows is vector code
        left[x] = row[across.first[begin + x]];
        right[x] = row[across.second[begin + x]];
    }
    float const* first_weight = &across.first_weight[begin];
    float const* second_weight = &across.second_weight[begin];
    for (int x = 0; x < kSegmentationBlock; ++x) {
        out[x] = segmentation_mixed(first_weight[x], left[x], second_weight[x], right[x]);
    }
}

#ifdef TRT_LANE_AVX2
LANE_AVX2 inline void segmentation_softmax_avx2(SegmentationBlock* classes, int count) {
    segmentation_softmax_loop(classes, count);
}
LANE_AVX2 inline void segmentation_across_avx2(SegmentationAcross const& across, int begin,
                                               float const* row, float* out) {
    segmentation_across_loop(across, begin, row, out);
}
#endif

inline void segmentation_softmax([[maybe_unused]] bool avx2, SegmentationBlock* classes,
                                 int count) {
#ifdef TRT_LANE_AVX2
    if (avx2) return segmentation_softmax_avx2(classes, count);
#endif
    segmentation_softmax_loop(classes, count);
}

inline void segmentation_across([[maybe_unused]] bool avx2, SegmentationAcross const& across,
                                int begin, float const* row, float* out) {
#ifdef TRT_LANE_AVX2
    if (avx2) return segmentation_across_avx2(across, begin, row, out);
#endif
    segmentation_across_loop(across, begin, row, out);
}

}  // namespace trt_lane
