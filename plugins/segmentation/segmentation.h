// Segmentation (SCNN, RESA, ERFNet): the maths; trt_lane/decoders/segmentation.py is the
// definition.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "common/decoder.h"

namespace trt_lane {

struct SegmentationParams {
    static constexpr int kMaxLanes = 16;  // the YAML says so too
    static constexpr int kMaxBlur = 65;

    int frame_h, frame_w, input_h, input_w, map_h, map_w;
    int lanes, max_lanes, slots;
    int kept;  // most lanes that are read
    int gap_px, points, first_gap, lift_px, blur;
    float threshold, existence_threshold;
};

// The map's row of point j from the bottom; below 0 the frame has ended.
LANE_HD int segmentation_row(SegmentationParams const& p, int j) {
    double const up = static_cast<double>((p.first_gap + j) * p.gap_px) / p.frame_h * p.input_h;
    return static_cast<int>(p.input_h - up - p.lift_px);
}

LANE_HD float segmentation_y(SegmentationParams const& p, int j) {
    return static_cast<float>(p.frame_h - (p.first_gap + j) * p.gap_px - p.lift_px);
}

LANE_HD double segmentation_x(SegmentationParams const& p, int column) {
    return static_cast<double>(column) / p.input_w * p.frame_w;
}

// Official: column 0 of the frame means "no point". -1 is ours.
LANE_HD int segmentation_place(SegmentationParams const& p, int column, float largest) {
    return largest > p.threshold && segmentation_x(p, column) >= 1.0 ? column : -1;
}

LANE_HD float segmentation_existence(float logit) {
    return finite(logit) ? sigmoid32(logit) : 0.0f;
}

// Which lanes are read, in the head's order, and how many. Lanes tied for the last place all go.
LANE_HD int segmentation_select(SegmentationParams const& p, float const* existence, int* kept) {
    int count = 0;
    for (int i = 0; i < p.lanes; ++i) {
        if (existence[i] > p.existence_threshold) kept[count++] = i;
    }
    while (p.max_lanes && count > p.max_lanes) {
        float least = existence[kept[0]];
        for (int i = 1; i < count; ++i) {
            least = existence[kept[i]] < least ? existence[kept[i]] : least;
        }
        int left = 0;
        for (int i = 0; i < count; ++i) {
            if (existence[kept[i]] > least) kept[left++] = kept[i];
        }
        count = left;
    }
    return count;
}

// Linear interpolation with corners on corners, one output along one axis: the weights of two
// neighbours. The second one is the first again where there is none.
struct SegmentationTaps {
    int first, second;
    float first_weight, second_weight;
};

LANE_HD SegmentationTaps segmentation_taps(int inputs, int outputs, int at) {
    if (outputs == 1) return {0, 0, 1.0f, 0.0f};
    double const step = static_cast<double>(inputs - 1) / (outputs - 1);
    double const position = at == outputs - 1 ? inputs - 1 : at * step;
    int const first = static_cast<int>(position);
    if (first + 1 >= inputs) return {first, first, 1.0f, 0.0f};
    return {first, first + 1, static_cast<float>(1.0 - (position - first)),
            static_cast<float>(1.0 - (first + 1 - position))};
}

// a * b + c rounded once, as the matrix product under numpy does it.
LANE_HD float segmentation_fused(float a, float b, float c) {
#ifdef __CUDA_ARCH__
    return fmaf(a, b, c);
#else
    // The product is exact in float64; where there is no such instruction, fmaf is a slow call.
    return static_cast<float>(static_cast<double>(a) * b + c);
#endif
}

LANE_HD float segmentation_mixed(float first_weight, float first, float second_weight,
                                 float second) {
    return segmentation_fused(second_weight, second, first_weight * first);
}

// Logit of a pixel of the map that holds NaN or infinity: surely background.
LANE_HD float segmentation_unsound(int klass) { return klass == 0 ? 30.0f : -30.0f; }

struct Segmentation {
    using Params = SegmentationParams;

    static Params make(Fields const& fields) {
        Params p{};
        auto const sizes = [&](char const* name, int* height, int* width) {
            *height = static_cast<int>(fields.numbers(name)[0]);
            *width = static_cast<int>(fields.numbers(name)[1]);
        };
        sizes("frame_hw", &p.frame_h, &p.frame_w);
        sizes("input_hw", &p.input_h, &p.input_w);
        sizes("map_hw", &p.map_h, &p.map_w);
        p.lanes = fields.integer("lanes");
        p.max_lanes = fields.integer("max_lanes");
        p.kept = p.max_lanes ? std::min(p.max_lanes, p.lanes) : p.lanes;
        p.slots = fields.integer("slots") ? fields.integer("slots") : p.kept;
        p.gap_px = fields.integer("gap_px");
        p.points = fields.integer("points");
        p.first_gap = fields.integer("first_gap");
        p.lift_px = fields.integer("lift_px");
        p.blur = fields.integer("blur_px");
        p.threshold = static_cast<float>(fields.number("threshold"));
        p.existence_threshold = static_cast<float>(fields.number("existence_threshold"));
        if (p.blur % 2 == 0) {
            fields.refuse("blur_px is " + std::to_string(p.blur) +
                          "; expected an odd side of the box filter");
        }
        double const ratio = static_cast<double>(p.map_h) * p.input_w / (1.0 * p.map_w * p.input_h);
        if (!(std::abs(ratio - 1.0) <= kAspectTolerance)) {
            fields.refuse("map_hw is " + std::to_string(p.map_h) + " " + std::to_string(p.map_w) +
                          "; expected the shape of input_hw, " + std::to_string(p.input_h) + " " +
                          std::to_string(p.input_w));
        }
        if (static_cast<double>(p.first_gap + p.points) * p.gap_px > 1e9) {
            fields.refuse("gap_px is " + std::to_string(p.gap_px) +
                          "; expected points inside a frame");
        }
        if (segmentation_row(p, 0) >= p.input_h) {
            fields.refuse("first_gap and lift_px are 0: expected a first point above row " +
                          std::to_string(p.frame_h) + ", where the frame ends");
        }
        return p;
    }

    static std::vector<Shape> head_shapes(Params const& p) {
        return {{p.lanes + 1, p.map_h, p.map_w}, {p.lanes}};
    }
    static int slots(Params const& p) { return p.slots; }
    static int points(Params const& p) { return p.points; }
    static std::size_t probability_bytes(Params const& p, int batch) {
        std::size_t const size =
            sizeof(float) * batch * p.kept * static_cast<std::size_t>(p.input_h) * p.input_w;
        return (size + 255) / 256 * 256;
    }
    static std::size_t workspace_bytes(Params const& p, int batch) {
        return probability_bytes(p, batch) + sizeof(int) * batch * p.kept * p.points;
    }

    template <typename T>
    static void decode(Params const& p, Heads const& heads, int batch, Lanes const& lanes);

    static cudaError_t launch(Params const& p, Heads const& heads, int batch, Lanes const& lanes,
                              void* workspace, cudaStream_t stream);

    static constexpr int kMinPoints = 2;

private:
    // A map's sides are rounded up to whole steps of its stride.
    static constexpr double kAspectTolerance = 0.05;
};

}  // namespace trt_lane

#include "segmentation/segmentation_host.h"
