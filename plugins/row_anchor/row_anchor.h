// Row anchors (UFLD): the maths; trt_lane/decoders/row_anchor.py is the definition.
#pragma once

#include <algorithm>
#include <cmath>
#include <numeric>

#include "common/decoder.h"

namespace trt_lane {

struct RowAnchorParams {
    static constexpr int kMaxRows = 256;  // kernel parameters end at 4 KiB; the YAML says so too
    static constexpr int kMaxLanes = 64;

    int rows, cells, lanes, slots, min_points;
    double cell_px, cell_offset, x_offset_px;
    std::int16_t order[kMaxRows];  // head rows from the bottom of the frame upwards
    float y_px[kMaxRows];          // of those
};

// One row of one lane.
struct RowAnchorPlace {
    double cell;       // expected cell + offset, NaN where there is no point
    float confidence;  // probability of a lane, 1 - softmax(no lane); 0 where there is no point
};

LANE_HD RowAnchorPlace row_anchor_nowhere() { return {static_cast<double>(nan_float()), 0.0f}; }

// float32 weights and probabilities, summed over cells in order, and a float64 expectation: the
// official numbers to the last bits.
LANE_HD float row_anchor_weight(float logit, float largest) { return exp32(logit - largest); }

LANE_HD double row_anchor_share(int cell, float weight, float sum) {
    return static_cast<double>(cell) * static_cast<double>(weight / sum);
}

// `absent` is the weight of "no lane", `sum` that of all cells. A tie of "no lane" with the
// likeliest cell is a point: the first of equals, as the official argmax.
LANE_HD RowAnchorPlace row_anchor_place(RowAnchorParams const& p, double expected, float sum,
                                        float absent) {
    return {expected + p.cell_offset, 1.0f - absent / (sum + absent)};
}

// x in frame pixels, float64: whether it is finite decides if the point counts.
LANE_HD double row_anchor_x(RowAnchorParams const& p, double cell) {
    return cell * p.cell_px + p.x_offset_px;
}

struct RowAnchor {
    using Params = RowAnchorParams;

    static Params make(Fields const& fields) {
        Params p{};
        std::vector<double> const& rows_px = fields.numbers("rows_px");
        p.rows = static_cast<int>(rows_px.size());
        p.cells = fields.integer("cells");
        p.lanes = fields.integer("lanes");
        p.min_points = fields.integer("min_points");
        p.slots = fields.integer("slots") ? fields.integer("slots") : p.lanes;
        p.cell_px = fields.number("cell_px");
        p.cell_offset = fields.number("cell_offset");
        p.x_offset_px = fields.number("x_offset_px");
        std::iota(p.order, p.order + p.rows, std::int16_t{0});
        std::stable_sort(p.order, p.order + p.rows,
                         [&](int a, int b) { return rows_px[a] > rows_px[b]; });
        for (int i = 0; i < p.rows; ++i) p.y_px[i] = static_cast<float>(rows_px[p.order[i]]);
        return p;
    }

    static std::vector<Shape> head_shapes(Params const& p) {
        return {{p.cells + 1, p.rows, p.lanes}};
    }
    static int slots(Params const& p) { return p.slots; }
    static int points(Params const& p) { return p.rows; }
    static std::size_t workspace_bytes(Params const& p, int batch) {
        return static_cast<std::size_t>(batch) * p.rows * p.lanes * sizeof(RowAnchorPlace);
    }

    template <typename T>
    static void decode(Params const& p, Heads const& heads, int batch, Lanes const& lanes) {
        int const anchors = p.rows * p.lanes;
        Scratch scratch(p.cells, anchors);
        for (int n = 0; n < batch; ++n) {
            locate(p, heads.as<T>(0) + static_cast<std::size_t>(n) * (p.cells + 1) * anchors,
                   &scratch);
            LaneWriter writer(lanes, n, p.slots, p.rows);
            for (int lane = 0; lane < p.lanes; ++lane) {
                write_lane(p, scratch.places.data() + lane, writer);
            }
        }
    }

    static cudaError_t launch(Params const& p, Heads const& heads, int batch, Lanes const& lanes,
                              void* workspace, cudaStream_t stream);

private:
    struct Scratch {
        Scratch(int cells, int anchors)
            : places(anchors),
              largest(anchors),
              sum(anchors),
              unsound(anchors),
              expected(anchors),
              weights(static_cast<std::size_t>(cells) * anchors) {}
        std::vector<RowAnchorPlace> places;
        std::vector<float> largest, sum, unsound;
        std::vector<double> expected;
        std::vector<float> weights;  // (cells, anchors)
    };

    // All anchors side by side, cell by cell: loops that the compiler turns into vector code.
    template <typename T>
    static void locate(Params const& p, T const* logits, Scratch* scratch) {
        int const anchors = p.rows * p.lanes;
        float* largest = scratch->largest.data();
        float* sum = scratch->sum.data();
        float* unsound = scratch->unsound.data();
        double* expected = scratch->expected.data();
        std::fill_n(largest, anchors, -INFINITY);
        for (int a = 0; a < anchors; ++a) sum[a] = unsound[a] = 0.0f, expected[a] = 0.0;
        for (int g = 0; g < p.cells; ++g) {
            T const* row = logits + static_cast<std::size_t>(g) * anchors;
            for (int a = 0; a < anchors; ++a) {
                float const logit = to_float(row[a]);
                unsound[a] += logit * 0.0f;  // 0, or NaN from NaN and infinity on
                largest[a] = logit > largest[a] ? logit : largest[a];
            }
        }
        for (int g = 0; g < p.cells; ++g) {
            T const* row = logits + static_cast<std::size_t>(g) * anchors;
            float* weights = scratch->weights.data() + static_cast<std::size_t>(g) * anchors;
            for (int a = 0; a < anchors; ++a) {
                weights[a] = row_anchor_weight(to_float(row[a]), largest[a]);
                sum[a] += weights[a];
            }
        }
        for (int g = 0; g < p.cells; ++g) {
            float const* weights = scratch->weights.data() + static_cast<std::size_t>(g) * anchors;
            for (int a = 0; a < anchors; ++a) {
                expected[a] += row_anchor_share(g, weights[a], sum[a]);
            }
        }
        T const* last = logits + static_cast<std::size_t>(p.cells) * anchors;
        for (int a = 0; a < anchors; ++a) {
            float const none = to_float(last[a]);
            bool const present = unsound[a] == 0.0f && finite(none) && !(none > largest[a]);
            scratch->places[a] = present ? row_anchor_place(p, expected[a], sum[a],
                                                            row_anchor_weight(none, largest[a]))
                                         : row_anchor_nowhere();
        }
    }

    // `places` of one lane, p.lanes apart.
    static void write_lane(Params const& p, RowAnchorPlace const* places, LaneWriter& writer) {
        int count = 0;
        float confidence = 0.0f;
        for (int row = 0; row < p.rows; ++row) {
            RowAnchorPlace const& place = places[row * p.lanes];
            count += finite(row_anchor_x(p, place.cell));
            confidence += place.confidence;
        }
        if (count < p.min_points) return;
        float* points = writer.next(static_cast<float>(static_cast<double>(confidence) / count));
        for (int i = 0; points && i < p.rows; ++i) {
            double const x = row_anchor_x(p, places[p.order[i] * p.lanes].cell);
            points[2 * i] = static_cast<float>(x);
            points[2 * i + 1] = std::isnan(x) ? nan_float() : p.y_px[i];
        }
    }
};

}  // namespace trt_lane
