// Line anchors (LaneATT, CLRNet): the maths; trt_lane/decoders/line_anchor.py is the definition.
#pragma once

#include <algorithm>
#include <cmath>

#include "common/decoder.h"
#include "common/drafts.h"

namespace trt_lane {

struct LineAnchorParams {
    static constexpr int kMaxOffsets = 1024;  // the best line lies in shared memory
    static constexpr int kPrefix =
        5;  // columns before a line's x: logits, start_y, start_x, length
    static constexpr int kMaxColumns = kPrefix + kMaxOffsets;

    int anchors, offsets, extent_channels, most, slots;  // most: lines that the NMS keeps
    int frame_h, frame_w, crop_top;
    int inclusive;
    float threshold, least_margin, distance_px, x_full, x_px, length_scale;
    double length_strips;

    LANE_HD int columns() const { return kPrefix + offsets; }
};

// The heads of one frame.
template <typename T>
struct LineAnchorHeads {
    T const* cls;
    T const* extent;
    T const* xs;

    LANE_HD static LineAnchorHeads of(LineAnchorParams const& p, Heads const& heads, int frame) {
        std::int64_t const first = static_cast<std::int64_t>(frame) * p.anchors;
        return {heads.as<T>(0) + first * 2, heads.as<T>(1) + first * p.extent_channels,
                heads.as<T>(2) + first * p.offsets};
    }
    LANE_HD float logit(int anchor, int which) const { return to_float(cls[anchor * 2 + which]); }
    LANE_HD float start_y(LineAnchorParams const& p, int anchor) const {
        return to_float(extent[static_cast<std::int64_t>(anchor) * p.extent_channels]);
    }
    LANE_HD float start_x(LineAnchorParams const& p, int anchor) const {
        return to_float(extent[static_cast<std::int64_t>(anchor) * p.extent_channels + 1]);
    }
    LANE_HD float length(LineAnchorParams const& p, int anchor) const {
        return to_float(extent[static_cast<std::int64_t>(anchor + 1) * p.extent_channels - 1]);
    }
    LANE_HD float x(LineAnchorParams const& p, int anchor, int offset) const {
        return to_float(xs[static_cast<std::int64_t>(anchor) * p.offsets + offset]);
    }
    // One of the columns that the NMS compares, in its units.
    LANE_HD float column(LineAnchorParams const& p, int anchor, int index) const {
        if (index >= LineAnchorParams::kPrefix) {
            return x(p, anchor, index - LineAnchorParams::kPrefix) * p.x_px;
        }
        if (index < 2) return logit(anchor, index);
        return index == 2   ? start_y(p, anchor)
               : index == 3 ? start_x(p, anchor)
                            : length(p, anchor) * p.length_scale;
    }
};

// Foreground probability: weights in float64, all else in float32, as the official softmax.
LANE_HD float line_anchor_score(float background, float lane) {
    bool const sure = lane >= background;
    float const less = sure ? background - lane : lane - background;
    auto const weight = static_cast<float>(exp(static_cast<double>(less)));
    return sure ? 1.0f / (weight + 1.0f) : weight / (1.0f + weight);
}

LANE_HD bool line_anchor_likely(LineAnchorParams const& p, float score) {
    return p.inclusive ? score >= p.threshold : score > p.threshold;
}

// ---- lane NMS, with the widths and roundings of the official kernel ------------------------

// First and last offset of a line, rounded.
struct LineSpan {
    int first, end;
};

LANE_HD int line_anchor_truncated(double value) {
    if (value >= 2147483647.0) return 2147483647;
    return value <= -2147483648.0 ? -2147483647 - 1 : static_cast<int>(value);
}

// `length` in strips.
LANE_HD LineSpan line_anchor_span(LineAnchorParams const& p, float start_y, float length) {
    int const first = line_anchor_truncated(
        static_cast<double>(start_y * static_cast<float>(p.offsets - 1)) + 0.5);
    float const end = static_cast<float>(first) + length - 1.0f;
    double const down = length - 1.0f < 0.0f ? 1.0 : 0.0;
    return {first, line_anchor_truncated(static_cast<double>(end) + 0.5 - down)};
}

// Columns that two lines share, and what their summed distance must be below to be near.
struct LineOverlap {
    int begin, stop;  // both included
    float limit;
};

LANE_HD LineOverlap line_anchor_overlap(LineAnchorParams const& p, LineSpan a, LineSpan b) {
    int const start = a.first > b.first ? a.first : b.first;
    int end = a.end < b.end ? a.end : b.end;
    end = end < p.offsets - 1 ? end : p.offsets - 1;
    if (end < start) return {1, 0, -1.0f};  // sums are not below -1
    // The official kernel counts columns in an unsigned char; int32 wraps around in numpy.
    auto const begin = static_cast<int>((5u + static_cast<unsigned>(start)) & 0xffu);
    unsigned const strips = static_cast<unsigned>(end) - static_cast<unsigned>(start) + 1u;
    // Left of all columns, one stop is like another; from -1 it can still be counted down.
    int const stop = end < -LineAnchorParams::kPrefix ? -1 : LineAnchorParams::kPrefix + end;
    return {begin, stop, p.distance_px * static_cast<float>(static_cast<int>(strips))};
}

// ---- a line's points -----------------------------------------------------------------------

// Offset from which on a line is its own; below it, it goes on while inside the frame.
LANE_HD int line_anchor_start(LineAnchorParams const& p, float start_y) {
    double const strips = p.offsets - 1;
    double const start = rint(static_cast<double>(start_y) * strips);
    return static_cast<int>(start < 0.0 ? 0.0 : (start > strips ? strips : start));
}

// Offsets from here on have no point; `length` as in the head.
LANE_HD int line_anchor_cut(LineAnchorParams const& p, int start, float length) {
    double strips = static_cast<double>(length) * p.length_strips;
    strips = strips < -1e9 ? -1e9 : (strips > 1e9 ? 1e9 : strips);
    int const cut = start + static_cast<int>(rint(static_cast<double>(static_cast<float>(strips))));
    if (cut > p.offsets) return p.offsets;
    // From the other end, as the official slice.
    return cut >= 0 ? cut : (cut < -p.offsets ? 0 : p.offsets + cut);
}

// x as a share of the frame's width.
LANE_HD float line_anchor_place(LineAnchorParams const& p, float x) { return x / p.x_full; }

LANE_HD bool line_anchor_inside(float place) { return place >= 0.0f && place <= 1.0f; }

LANE_HD void line_anchor_point(LineAnchorParams const& p, int offset, float place, bool present,
                               float* point) {
    int const top = p.offsets - 1;
    double const step = static_cast<double>(p.crop_top - p.frame_h) / top;
    double const y = offset == top ? p.crop_top : offset * step + p.frame_h;
    point[0] = present ? static_cast<float>(static_cast<double>(place) * p.frame_w) : nan_float();
    point[1] = present ? static_cast<float>(y) : nan_float();
}

struct LineAnchor {
    using Params = LineAnchorParams;
    static constexpr int kLeastPoints = 2;

    static Params make(Fields const& fields) {
        Params p{};
        p.frame_h = static_cast<int>(fields.numbers("frame_hw")[0]);
        p.frame_w = static_cast<int>(fields.numbers("frame_hw")[1]);
        p.anchors = fields.integer("anchors");
        p.offsets = fields.integer("offsets");
        p.extent_channels = fields.integer("extent_channels");
        p.crop_top = fields.integer("crop_top");
        if (p.crop_top >= p.frame_h) fields.refuse("crop_top must be above the frame's bottom");
        p.most = std::min(fields.integer("max_lanes"), p.anchors);
        p.slots = fields.integer("slots") ? fields.integer("slots") : p.most;
        p.inclusive = fields.integer("inclusive");
        p.threshold = static_cast<float>(fields.number("threshold"));
        // Logits that are less apart than this are no lane, whatever the last bits of exp.
        double const t = fields.number("threshold");
        p.least_margin = static_cast<float>(
            t <= 0.0 ? -INFINITY : (t >= 0.9999 ? 9.0 : std::log(t / (1.0 - t)) - 0.01));
        p.distance_px = static_cast<float>(fields.number("distance_px"));
        p.x_full = static_cast<float>(fields.number("x_full"));
        p.x_px = static_cast<float>(fields.number("x_px"));
        p.length_strips = fields.number("length_strips");
        p.length_scale = static_cast<float>(p.length_strips);
        return p;
    }

    static std::vector<Shape> head_shapes(Params const& p) {
        return {{p.anchors, 2}, {p.anchors, p.extent_channels}, {p.anchors, p.offsets}};
    }
    static int slots(Params const& p) { return p.slots; }
    static int points(Params const& p) { return p.offsets; }
    static std::size_t workspace_bytes(Params const& p, int batch);

    template <typename T>
    static void decode(Params const& p, Heads const& heads, int batch, Lanes const& lanes);

    static cudaError_t launch(Params const& p, Heads const& heads, int batch, Lanes const& lanes,
                              void* workspace, cudaStream_t stream);
};

// What the kernels hand to each other, one number per anchor or kept line.
struct LineAnchorWorkspace {
    float* scores;             // (N, anchors): of lines that may be a lane; else below zero
    std::int32_t* candidates;  // (N, anchors): those, in order
    std::int32_t* kept;        // (N, most): the NMS's, best first
    Drafts drafts;             // their number is the drafts'

    static LineAnchorWorkspace at(LineAnchorParams const& p, void* memory, int batch) {
        std::size_t const lines = static_cast<std::size_t>(batch) * p.anchors;
        auto* scores = static_cast<float*>(memory);
        auto* candidates = reinterpret_cast<std::int32_t*>(scores + lines);
        auto* kept = candidates + lines;
        return {
            scores, candidates, kept,
            Drafts::at(kept + static_cast<std::size_t>(batch) * p.most, p.most, p.offsets, batch)};
    }
};

inline std::size_t LineAnchor::workspace_bytes(Params const& p, int batch) {
    std::size_t const lines = static_cast<std::size_t>(batch) * (2 * p.anchors + p.most);
    return lines * sizeof(float) + Drafts::bytes(p.most, p.offsets, batch);
}

}  // namespace trt_lane

#include "line_anchor/line_anchor_host.h"
