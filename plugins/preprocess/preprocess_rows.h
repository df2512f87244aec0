// Pre-processing on a CPU, the loops over a row in portable code.
//
// A row between the passes has four numbers per pixel, the fourth unused: a pixel is then one load.
#pragma once

#include <vector>

#include "common/simd.h"
#include "preprocess/preprocess.h"

namespace trt_lane {

constexpr int kLanes = 4;  // numbers of a pixel
constexpr int kPad = 16;   // bytes behind a row that a vector load may read

struct HostTables {
    std::vector<std::int32_t> first_x, weights_x, first_y, weights_y;
    std::vector<std::int32_t> offset_x;  // bytes, for the linear filter
    std::vector<std::int16_t> pairs;     // (w0, w1) three times and (0, 0), for the linear filter
};

// ---- along x -----------------------------------------------------------------------------------

LANE_LOOP void weigh_linear_pixel(std::uint8_t const* row, std::int16_t const* pair, int first,
                                  std::int16_t* out) {
    std::uint8_t const* at = row + 3 * first;
    for (int c = 0; c < 3; ++c) {
        out[c] = static_cast<std::int16_t>((at[c] * pair[0] + at[c + 3] * pair[1]) >> 4);
    }
    out[3] = 0;
}

// `row` has kPad readable bytes behind it.
inline void weigh_linear(HostTables const& t, std::uint8_t const* row, int begin, int end,
                         std::int16_t* out) {
    for (int x = begin; x < end; ++x) {
        weigh_linear_pixel(row, &t.pairs[8 * x], t.first_x[x], out + kLanes * x);
    }
}

// Cubic and antialiased: any number of taps.
inline void weigh_taps_pixel(PreprocessParams const& p, HostTables const& t,
                             std::uint8_t const* row, int x, std::int32_t* out) {
    std::int32_t const* weights = &t.weights_x[static_cast<std::size_t>(x) * p.taps_x];
    std::int32_t sum[kLanes] = {};
    for (int k = 0; k < p.taps_x; ++k) {
        std::uint8_t const* at = row + 3 * clamp_int(t.first_x[x] + k, 0, p.frame_w - 1);
        for (int c = 0; c < kLanes; ++c) sum[c] += weights[k] * at[c];
    }
    for (int c = 0; c < kLanes; ++c) out[kLanes * x + c] = between_passes(p.resampling, sum[c]);
}

inline void weigh_taps(PreprocessParams const& p, HostTables const& t, std::uint8_t const* row,
                       std::int32_t* out) {
    for (int x = 0; x < p.input_w; ++x) weigh_taps_pixel(p, t, row, x, out);
}

// ---- along y, and to the network's numbers -----------------------------------------------------

LANE_LOOP void add_linear(std::int16_t const* above, std::int16_t const* below, int weight_above,
                          int weight_below, int count, std::uint8_t* out) {
    for (int i = 0; i < count; ++i) {
        auto const a = static_cast<std::int16_t>((weight_above * above[i]) >> 16);
        auto const b = static_cast<std::int16_t>((weight_below * below[i]) >> 16);
        out[i] = static_cast<std::uint8_t>(static_cast<std::int16_t>(a + b + 2) >> 2);
    }
}

inline void add_taps(PreprocessParams const& p, std::int32_t const* const* rows,
                     std::int32_t const* weights, int begin, int end, std::uint8_t* out) {
    for (int i = begin; i < end; ++i) {
        std::int32_t sum = 0;
        for (int j = 0; j < p.taps_y; ++j) sum += weights[j] * rows[j][i];
        out[i] = static_cast<std::uint8_t>(rounded_pixel(p.resampling, sum));
    }
}

// One channel of a row of pixels of four bytes.
LANE_LOOP void normalise(std::uint32_t const* pixels, int shift, float factor, float offset,
                         int width, float* out) {
    for (int x = 0; x < width; ++x) {
        auto const value = static_cast<std::int32_t>((pixels[x] >> shift) & 255u);
        out[x] = static_cast<float>(value) * factor + offset;
    }
}

}  // namespace trt_lane
