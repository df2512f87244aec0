// Lanes before they have a slot: a decoder finds them with gaps, which the outputs do not have.
#pragma once

#include "common/decoder.h"

namespace trt_lane {

// Lanes of a batch in the decoder's order; x is NaN where a lane has no point.
struct Drafts {
    static constexpr int kMost = 1024;  // lanes of one frame

    float* points;        // (N, most, width, 2)
    float* scores;        // (N, most)
    std::int32_t* count;  // (N)
    int most, width;

    static std::size_t bytes(int most, int width, int batch) {
        std::size_t const lanes = static_cast<std::size_t>(batch) * most;
        return lanes * width * 2 * sizeof(float) + lanes * sizeof(float) +
               batch * sizeof(std::int32_t);
    }
    static Drafts at(void* memory, int most, int width, int batch) {
        auto* points = static_cast<float*>(memory);
        float* scores = points + static_cast<std::size_t>(batch) * most * width * 2;
        auto* count =
            reinterpret_cast<std::int32_t*>(scores + static_cast<std::size_t>(batch) * most);
        return {points, scores, count, most, width};
    }

    LANE_HD float* lane(int frame, int index) const {
        return points + (static_cast<std::int64_t>(frame) * most + index) * width * 2;
    }
};

// Gives a draft (width, 2) its slot when it has points enough: without gaps, its lower end first.
inline void write_draft(LaneWriter& writer, float const* draft, int width, int least, float score) {
    int length = 0, first = 0, last = 0;
    for (int i = 0; i < width; ++i) {
        if (draft[2 * i] != draft[2 * i]) continue;
        if (length++ == 0) first = i;
        last = i;
    }
    if (length < least || length == 0) return;
    float* points = writer.next(score);
    if (!points) return;
    bool const turned = draft[2 * first + 1] < draft[2 * last + 1];
    float* to = turned ? points + 2 * (length - 1) : points;
    for (int i = first; i <= last; ++i) {
        if (draft[2 * i] != draft[2 * i]) continue;
        to[0] = draft[2 * i];
        to[1] = draft[2 * i + 1];
        to += turned ? -2 : 2;
    }
}

}  // namespace trt_lane
