// Bézier curves (BezierLaneNet): the maths; trt_lane/decoders/bezier_curve.py is the definition.
#pragma once

#include <algorithm>
#include <cmath>
#include <functional>

#include "common/decoder.h"
#include "common/drafts.h"

namespace trt_lane {

struct BezierCurveParams {
    static constexpr int kMaxColumns = Drafts::kMost;
    static constexpr int kMaxRows = 256;  // kernel parameters end at 4 KiB; the YAML says so too

    int columns, reach, most, max_lanes, slots, samples, rows, frame_h, frame_w;
    float threshold;
    double step, tolerance;  // of the curve's parameter; a share of the frame's height
    float row[kMaxRows];     // shares of the frame's height, from the bottom upwards
    float y_px[kMaxRows];    // those in frame pixels

    LANE_HD int points() const { return rows ? rows : samples; }
};

// A point of a cubic, as shares of the frame.
struct BezierPoint {
    double x, y;
};

struct BezierCubic {
    float x[4], y[4];

    template <typename T>
    LANE_HD static BezierCubic of(T const* numbers) {
        BezierCubic cubic;
        for (int i = 0; i < 4; ++i) {
            cubic.x[i] = to_float(numbers[2 * i]);
            cubic.y[i] = to_float(numbers[2 * i + 1]);
        }
        return cubic;
    }
    LANE_HD bool sound() const {
        bool all = true;
        for (int i = 0; i < 4; ++i) all = all && finite(x[i]) && finite(y[i]);
        return all;
    }
    // Sample `index`; in float64, as the official code samples.
    LANE_HD BezierPoint at(BezierCurveParams const& p, int index) const {
        double const t = index == p.samples - 1 ? 1.0 : index * p.step, u = 1.0 - t;
        double const a = u * u * u, b = 3.0 * t * (u * u), c = 3.0 * (t * t) * u, d = t * t * t;
        return {a * x[0] + b * x[1] + c * x[2] + d * x[3],
                a * y[0] + b * y[1] + c * y[2] + d * y[3]};
    }
};

// Probability of a lane; 0 where the head is not sound.
template <typename T>
LANE_HD float bezier_probability(T const* logits, T const* curves, int column) {
    float const logit = to_float(logits[column]);
    bool const sound = finite(logit) && BezierCubic::of(curves + 8 * column).sound();
    return sound ? sigmoid32(logit) : 0.0f;
}

// Whether a column is a lane before the least certain are dropped: the leftmost of equals wins.
LANE_HD bool bezier_chosen(BezierCurveParams const& p, float const* probability, int column) {
    float const own = probability[column];
    if (!(own > p.threshold)) return false;
    int const left = column > p.reach ? column - p.reach : 0;
    int const right = column + p.reach < p.columns ? column + p.reach : p.columns - 1;
    bool largest = true;
    for (int i = left; i < column; ++i) largest = largest && own > probability[i];
    for (int i = column + 1; i <= right; ++i) largest = largest && own >= probability[i];
    return largest;
}

// Lanes tied for the last place all go: one stays if at most max_lanes are at least as likely.
LANE_HD bool bezier_stays(BezierCurveParams const& p, int at_least_as_likely) {
    return p.max_lanes == 0 || at_least_as_likely <= p.max_lanes;
}

LANE_HD void bezier_no_point(float* point) { point[0] = point[1] = nan_float(); }

// A sample in frame pixels; the point is absent beyond float32.
LANE_HD void bezier_sample(BezierCurveParams const& p, BezierPoint sample, float* point) {
    point[0] = static_cast<float>(sample.x * p.frame_w);
    point[1] = static_cast<float>(sample.y * p.frame_h);
    if (!finite(point[0]) || !finite(point[1])) bezier_no_point(point);
}

LANE_HD double bezier_distance(BezierCurveParams const& p, int row, double y) {
    return fabs(static_cast<double>(p.row[row]) - y);
}

// The point of a row, whose nearest sample is `sample` at this distance.
LANE_HD void bezier_row_point(BezierCurveParams const& p, int row, BezierPoint sample,
                              double distance, float* point) {
    bool const meets = distance <= p.tolerance && sample.x >= 0.0 && sample.x <= 1.0;
    point[0] = meets ? static_cast<float>(sample.x * p.frame_w) : nan_float();
    point[1] = meets ? p.y_px[row] : nan_float();
}

// What the kernels hand to each other.
struct BezierWorkspace {
    std::int32_t* columns;  // (N, most): lanes from left to right; their number is the drafts'
    Drafts drafts;

    static BezierWorkspace at(BezierCurveParams const& p, void* memory, int batch) {
        auto* columns = static_cast<std::int32_t*>(memory);
        return {columns, Drafts::at(columns + static_cast<std::size_t>(batch) * p.most, p.most,
                                    p.points(), batch)};
    }
};

struct BezierCurve {
    using Params = BezierCurveParams;
    static constexpr int kLeastPoints = 1;

    static Params make(Fields const& fields) {
        Params p{};
        p.frame_h = static_cast<int>(fields.numbers("frame_hw")[0]);
        p.frame_w = static_cast<int>(fields.numbers("frame_hw")[1]);
        p.columns = fields.integer("columns");
        int const window = fields.integer("window");
        if (window && window % 2 == 0) fields.refuse("window must be 0 or odd");
        p.reach = window / 2;
        p.max_lanes = fields.integer("max_lanes");
        p.most = p.max_lanes ? std::min(p.max_lanes, p.columns) : p.columns;
        p.slots = fields.integer("slots") ? fields.integer("slots") : p.most;
        p.samples = fields.integer("samples");
        p.step = 1.0 / (p.samples - 1);
        p.threshold = static_cast<float>(fields.number("threshold"));
        p.tolerance = fields.number("row_tolerance_px") / p.frame_h;
        std::vector<double> rows_px = fields.numbers("rows_px");
        std::sort(rows_px.begin(), rows_px.end(), std::greater<double>());
        p.rows = static_cast<int>(rows_px.size());
        for (int i = 0; i < p.rows; ++i) {
            p.row[i] = static_cast<float>(rows_px[i] / p.frame_h);
            p.y_px[i] = static_cast<float>(rows_px[i]);
        }
        return p;
    }

    static std::vector<Shape> head_shapes(Params const& p) {
        return {{p.columns}, {p.columns, 4, 2}};
    }
    static int slots(Params const& p) { return p.slots; }
    static int points(Params const& p) { return p.points(); }
    static std::size_t workspace_bytes(Params const& p, int batch) {
        return static_cast<std::size_t>(batch) * p.most * sizeof(std::int32_t) +
               Drafts::bytes(p.most, p.points(), batch);
    }

    template <typename T>
    static void decode(Params const& p, Heads const& heads, int batch, Lanes const& lanes) {
        std::vector<float> probability(p.columns), draft(2 * static_cast<std::size_t>(p.points()));
        std::vector<int> chosen;
        Samples samples(p.samples);
        for (int n = 0; n < batch; ++n) {
            T const* logits = heads.as<T>(0) + static_cast<std::size_t>(n) * p.columns;
            T const* curves = heads.as<T>(1) + static_cast<std::size_t>(n) * p.columns * 8;
            for (int c = 0; c < p.columns; ++c) {
                probability[c] = bezier_probability(logits, curves, c);
            }
            chosen.clear();
            for (int c = 0; c < p.columns; ++c) {
                if (bezier_chosen(p, probability.data(), c)) chosen.push_back(c);
            }
            LaneWriter writer(lanes, n, p.slots, p.points());
            for (int const c : chosen) {
                auto const rivals = std::count_if(chosen.begin(), chosen.end(), [&](int other) {
                    return probability[other] >= probability[c];
                });
                auto const cubic = BezierCubic::of(curves + 8 * c);
                if (!bezier_stays(p, static_cast<int>(rivals)) || !cubic.sound()) continue;
                if (p.rows) {
                    at_rows(p, cubic, samples, draft.data());
                } else {
                    for (int i = 0; i < p.samples; ++i) {
                        bezier_sample(p, cubic.at(p, i), &draft[2 * i]);
                    }
                }
                write_draft(writer, draft.data(), p.points(), kLeastPoints, probability[c]);
            }
        }
    }

    static cudaError_t launch(Params const& p, Heads const& heads, int batch, Lanes const& lanes,
                              void* workspace, cudaStream_t stream);

private:
    static constexpr int kGroup = 16;

    // Samples of one curve, and the least and largest y of each group of them.
    struct Samples {
        explicit Samples(int count)
            : y(count), least((count + kGroup - 1) / kGroup), largest(least.size()) {}
        std::vector<double> y, least, largest;
    };

    // The nearest sample of every row. Groups that cannot hold it are passed over.
    static void at_rows(Params const& p, BezierCubic const& cubic, Samples& samples, float* draft) {
        int const groups = static_cast<int>(samples.least.size());
        for (int i = 0; i < p.samples; ++i) samples.y[i] = cubic.at(p, i).y;
        for (int g = 0; g < groups; ++g) {
            auto const first = samples.y.begin() + g * kGroup;
            auto const last = samples.y.begin() + std::min((g + 1) * kGroup, p.samples);
            samples.least[g] = *std::min_element(first, last);
            samples.largest[g] = *std::max_element(first, last);
        }
        for (int row = 0; row < p.rows; ++row) {
            double reached = INFINITY;
            for (int g = 0; g < groups; ++g) {
                reached = std::min({reached, bezier_distance(p, row, samples.least[g]),
                                    bezier_distance(p, row, samples.largest[g])});
            }
            int nearest = 0;
            double distance = INFINITY;
            for (int g = 0; g < groups; ++g) {
                double const y = p.row[row];
                bool const within = y >= samples.least[g] && y <= samples.largest[g];
                double const bound = std::min(bezier_distance(p, row, samples.least[g]),
                                              bezier_distance(p, row, samples.largest[g]));
                if (!within && bound > reached) continue;
                for (int i = g * kGroup; i < std::min((g + 1) * kGroup, p.samples); ++i) {
                    double const d = bezier_distance(p, row, samples.y[i]);
                    if (d < distance) distance = d, nearest = i;
                }
            }
            bezier_row_point(p, row, cubic.at(p, nearest), distance, draft + 2 * row);
        }
    }
};

}  // namespace trt_lane
