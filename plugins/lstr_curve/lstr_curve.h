// LSTR's curves: the maths, in float64; trt_lane/decoders/lstr_curve.py is the definition.
#pragma once

#include <algorithm>
#include <cmath>
#include <functional>

#include "common/decoder.h"

namespace trt_lane {

struct LstrCurveParams {
    static constexpr int kMaxRows = 256;  // kernel parameters end at 4 KiB; the YAML says so too
    static constexpr int kMaxQueries = 1024;
    static constexpr int kNumbers = 8;  // of a curve

    int rows, queries, classes, lane_class, to_bottom, min_points, slots, frame_h, frame_w;
    double y_px[kMaxRows];  // from the bottom upwards
};

// The heads of one query: float32 or float16.
template <typename T>
struct LstrQuery {
    T const* logits;
    T const* curve;

    LANE_HD static LstrQuery of(LstrCurveParams const& p, Heads const& heads, int frame,
                                int query) {
        std::int64_t const index = static_cast<std::int64_t>(frame) * p.queries + query;
        return {heads.as<T>(0) + index * p.classes,
                heads.as<T>(1) + index * LstrCurveParams::kNumbers};
    }

    // All finite, and of all classes the lane is the likeliest, the first of equals.
    LANE_HD bool is_lane(LstrCurveParams const& p) const {
        bool yes = true;
        float const lane = to_float(logits[p.lane_class]);
        for (int c = 0; c < p.classes; ++c) {
            float const logit = to_float(logits[c]);
            yes = yes && finite(logit) && (c < p.lane_class ? logit < lane : logit <= lane);
        }
        for (int i = 0; i < LstrCurveParams::kNumbers; ++i) {
            yes = yes && finite(to_float(curve[i]));
        }
        return yes;
    }

    // Softmax probability of the lane class, which is the largest.
    LANE_HD float score(LstrCurveParams const& p) const {
        double const lane = to_float(logits[p.lane_class]);
        double sum = 0.0;
        for (int c = 0; c < p.classes; ++c) sum += exp(to_float(logits[c]) - lane);
        return static_cast<float>(1.0 / sum);
    }

    LANE_HD double number(int index) const { return to_float(curve[index]); }

    // x in frame pixels on a row; NaN outside curve and frame.
    LANE_HD double x(LstrCurveParams const& p, int row) const {
        double const y = p.y_px[row] / p.frame_h, up = y - number(3);
        double const a = number(0), b = number(1);
        double const x =
            (number(2) / (up * up) + number(4) / up + number(5) + number(6) * y - number(7)) *
            p.frame_w;
        bool const inside = y >= (a < b ? a : b) && (p.to_bottom || y <= (a < b ? b : a)) &&
                            x >= 0.0 && x <= p.frame_w - 1;
        return inside ? x : static_cast<double>(nan_float());
    }
};

struct LstrCurve {
    using Params = LstrCurveParams;

    static Params make(Fields const& fields) {
        Params p{};
        p.frame_h = static_cast<int>(fields.numbers("frame_hw")[0]);
        p.frame_w = static_cast<int>(fields.numbers("frame_hw")[1]);
        p.queries = fields.integer("queries");
        p.classes = fields.integer("classes");
        p.lane_class = fields.integer("lane_class");
        if (p.lane_class >= p.classes) fields.refuse("lane_class must be below classes");
        p.to_bottom = fields.integer("to_bottom");
        p.min_points = fields.integer("min_points");
        p.slots = fields.integer("slots") ? fields.integer("slots") : p.queries;
        std::vector<double> const& rows_px = fields.numbers("rows_px");
        p.rows = static_cast<int>(rows_px.size());
        std::copy(rows_px.begin(), rows_px.end(), p.y_px);
        std::sort(p.y_px, p.y_px + p.rows, std::greater<double>());
        return p;
    }

    static std::vector<Shape> head_shapes(Params const& p) {
        return {{p.queries, p.classes}, {p.queries, Params::kNumbers}};
    }
    static int slots(Params const& p) { return p.slots; }
    static int points(Params const& p) { return p.rows; }
    static std::size_t workspace_bytes(Params const&, int) { return 0; }

    template <typename T>
    static void decode(Params const& p, Heads const& heads, int batch, Lanes const& lanes) {
        std::vector<double> x(p.rows);
        for (int n = 0; n < batch; ++n) {
            LaneWriter writer(lanes, n, p.slots, p.rows);
            for (int q = 0; q < p.queries; ++q) {
                auto const query = LstrQuery<T>::of(p, heads, n, q);
                if (!query.is_lane(p)) continue;
                int count = 0;
                for (int row = 0; row < p.rows; ++row) {
                    x[row] = query.x(p, row);
                    count += finite(x[row]);
                }
                if (count < p.min_points) continue;
                float* points = writer.next(query.score(p));
                for (int row = 0; points && row < p.rows; ++row) {
                    if (!finite(x[row])) continue;
                    points[2 * row] = static_cast<float>(x[row]);
                    points[2 * row + 1] = static_cast<float>(p.y_px[row]);
                }
            }
        }
    }

    static cudaError_t launch(Params const& p, Heads const& heads, int batch, Lanes const& lanes,
                              void* workspace, cudaStream_t stream);
};

}  // namespace trt_lane
