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
    static void decode(Params const& p, Heads const& heads, int batch, Lanes const& lanes) {
        Scratch scratch(p);
        std::vector<int> columns(p.points);
        for (int n = 0; n < batch; ++n) {
            T const* maps =
                heads.as<T>(0) + static_cast<std::size_t>(n) * (p.lanes + 1) * p.map_h * p.map_w;
            T const* logits = heads.as<T>(1) + static_cast<std::size_t>(n) * p.lanes;
            float existence[Params::kMaxLanes];
            for (int i = 0; i < p.lanes; ++i) {
                existence[i] = segmentation_existence(to_float(logits[i]));
            }
            int kept[Params::kMaxLanes];
            int const count = segmentation_select(p, existence, kept);
            LaneWriter writer(lanes, n, p.slots, p.points);
            std::fill(scratch.done.begin(), scratch.done.end(), char{0});
            for (int k = 0; k < count; ++k) {
                int found = 0;
                for (int j = 0; j < p.points; ++j) {
                    int const row = segmentation_row(p, j);
                    columns[j] = row < 0 ? -1 : read_row(p, maps, kept[k], row, &scratch);
                    found += columns[j] >= 0;
                }
                if (found < kMinPoints) continue;
                float* at = writer.next(existence[kept[k]]);
                for (int j = 0; at && j < p.points; ++j) {
                    if (columns[j] < 0) continue;
                    *at++ = static_cast<float>(segmentation_x(p, columns[j]));
                    *at++ = segmentation_y(p, j);
                }
            }
        }
    }

    static cudaError_t launch(Params const& p, Heads const& heads, int batch, Lanes const& lanes,
                              void* workspace, cudaStream_t stream);

    static constexpr int kMinPoints = 2;

private:
    // A map's sides are rounded up to whole steps of its stride.
    static constexpr double kAspectTolerance = 0.05;

    struct Scratch {
        explicit Scratch(Params const& p)
            : done(p.input_h),
              probability(static_cast<std::size_t>(p.lanes) * p.input_h * p.input_w),
              logits(static_cast<std::size_t>(p.lanes + 1) * p.input_w),
              largest(p.input_w),
              sum(p.input_w),
              mixed(p.map_w),
              sound(2 * p.map_w),
              vertical(p.input_w + p.blur - 1),
              blurred(p.input_w) {
            for (int x = 0; x < p.input_w; ++x) {
                taps.push_back(segmentation_taps(p.map_w, p.input_w, x));
            }
        }
        std::vector<char> done;              // rows whose probabilities are known
        std::vector<float> probability;      // (lanes, H, W)
        std::vector<float> logits;           // (lanes + 1, W) of one row
        std::vector<float> largest, sum;     // (W,)
        std::vector<float> mixed, sound;     // (w,), (2, w)
        std::vector<double> vertical;        // (W + blur - 1,) sums down the filter's columns
        std::vector<double> blurred;         // (W,)
        std::vector<SegmentationTaps> taps;  // (W,)
    };

    // The column of a lane in a row of the map, or -1.
    template <typename T>
    static int read_row(Params const& p, T const* maps, int lane, int row, Scratch* scratch) {
        int const half = p.blur / 2;
        double* vertical = scratch->vertical.data() + half;
        std::fill(scratch->vertical.begin(), scratch->vertical.end(), 0.0);
        for (int dy = -half; dy <= half; ++dy) {
            int const y = std::clamp(row + dy, 0, p.input_h - 1);
            if (!scratch->done[y]) find_probabilities(p, maps, y, scratch);
            float const* from = scratch->probability.data() +
                                (static_cast<std::size_t>(lane) * p.input_h + y) * p.input_w;
            for (int x = 0; x < p.input_w; ++x) vertical[x] += from[x];
        }
        for (int x = 1; x <= half; ++x) {  // the outermost columns go on beyond the map
            vertical[-x] = vertical[0];
            vertical[p.input_w - 1 + x] = vertical[p.input_w - 1];
        }
        double* blurred = scratch->blurred.data();
        std::fill(scratch->blurred.begin(), scratch->blurred.end(), 0.0);
        for (int dx = -half; dx <= half; ++dx) {
            for (int x = 0; x < p.input_w; ++x) blurred[x] += vertical[x + dx];
        }
        double const scale = 1.0 / (p.blur * p.blur);
        int column = 0;
        float largest = static_cast<float>(blurred[0] * scale);
        for (int x = 1; x < p.input_w; ++x) {
            float const value = static_cast<float>(blurred[x] * scale);
            if (value > largest) largest = value, column = x;
        }
        return segmentation_place(p, column, largest);
    }

    // Softmax of one row at the network input's size.
    template <typename T>
    static void find_probabilities(Params const& p, T const* maps, int y, Scratch* scratch) {
        SegmentationTaps const rows = segmentation_taps(p.map_h, p.input_h, y);
        std::size_t const plane = static_cast<std::size_t>(p.map_h) * p.map_w;
        T const* above = maps + static_cast<std::size_t>(rows.first) * p.map_w;
        T const* below = maps + static_cast<std::size_t>(rows.second) * p.map_w;
        float* sound = scratch->sound.data();
        std::fill_n(sound, 2 * p.map_w, 0.0f);
        for (int c = 0; c <= p.lanes; ++c) {
            for (int x = 0; x < p.map_w; ++x) {  // 0, or NaN from NaN and infinity on
                sound[x] += to_float(above[c * plane + x]) * 0.0f;
                sound[p.map_w + x] += to_float(below[c * plane + x]) * 0.0f;
            }
        }
        float* largest = scratch->largest.data();
        std::fill_n(largest, p.input_w, -INFINITY);
        for (int c = 0; c <= p.lanes; ++c) {
            float* logits = scratch->logits.data() + static_cast<std::size_t>(c) * p.input_w;
            float* mixed = p.map_w == p.input_w ? logits : scratch->mixed.data();
            float const unsound = segmentation_unsound(c);
            for (int x = 0; x < p.map_w; ++x) {
                // Read in any case: the compiler makes no vector code of loads that may not happen.
                float const a = to_float(above[c * plane + x]);
                float const b = to_float(below[c * plane + x]);
                mixed[x] = segmentation_mixed(rows.first_weight, sound[x] == 0.0f ? a : unsound,
                                              rows.second_weight,
                                              sound[p.map_w + x] == 0.0f ? b : unsound);
            }
            SegmentationTaps const* taps = scratch->taps.data();
            for (int x = 0; mixed != logits && x < p.input_w; ++x) {
                logits[x] = segmentation_mixed(taps[x].first_weight, mixed[taps[x].first],
                                               taps[x].second_weight, mixed[taps[x].second]);
            }
            for (int x = 0; x < p.input_w; ++x) {
                largest[x] = logits[x] > largest[x] ? logits[x] : largest[x];
            }
        }
        float* sum = scratch->sum.data();
        std::fill_n(sum, p.input_w, 0.0f);
        for (int c = 0; c <= p.lanes; ++c) {
            float* weights = scratch->logits.data() + static_cast<std::size_t>(c) * p.input_w;
            for (int x = 0; x < p.input_w; ++x) {
                weights[x] = exp32(weights[x] - largest[x]);
                sum[x] += weights[x];
            }
        }
        for (int c = 1; c <= p.lanes; ++c) {
            float const* weights = scratch->logits.data() + static_cast<std::size_t>(c) * p.input_w;
            float* probability = scratch->probability.data() +
                                 (static_cast<std::size_t>(c - 1) * p.input_h + y) * p.input_w;
            for (int x = 0; x < p.input_w; ++x) probability[x] = weights[x] / sum[x];
        }
        scratch->done[y] = 1;
    }
};

}  // namespace trt_lane
