// Row and column anchors (UFLDv2): the maths; trt_lane/decoders/row_column_anchor.py is the
// definition.
#pragma once

#include <algorithm>
#include <cmath>

#include "common/decoder.h"
#include "common/drafts.h"
#include "row_column_anchor/parabola.h"

namespace trt_lane {

enum class Refit : std::int32_t { kNone, kMerged };

struct RowColumnAnchorParams {
    static constexpr int kMaxEntries = 128;
    // Points along a parabola: across the lane's width, along its height.
    static constexpr int kAcross = 36, kAlong = 41;

    // A lane that may come out, in the order of the outputs.
    struct Entry {
        std::int8_t lane;
        std::int8_t in_rows, in_columns;  // whether it is read from these heads
        // Row lanes come first; one that the rows do not have may still come from the columns.
        std::int8_t if_rows, unless_rows;
    };

    int rows, columns, row_cells, column_cells, lanes, window, entries, slots, width;
    int frame_h, frame_w;
    Refit refit;
    double top, bottom, row_step, column_step, above_rows, above_columns;
    Entry entry[kMaxEntries];

    LANE_HD int row_places() const { return rows * lanes; }
    LANE_HD int places() const { return (rows + columns) * lanes; }
    // Of `count` numbers at equal steps.
    LANE_HD static double spaced(double first, double step, double last, int count, int i) {
        return i == count - 1 && count > 1 ? last : i * step + first;
    }
    LANE_HD double row_px(int row) const {
        return spaced(top, row_step, bottom, rows, row) * frame_h;
    }
    LANE_HD double column_px(int column) const {
        return spaced(0.0, column_step, 1.0, columns, column) * frame_w;
    }
};

// What one anchor says of one lane.
struct RowColumnPlace {
    float px;      // x on a row, y on a column; NaN where there is no point
    float chance;  // probability of existence
};

// Expectation over the cells around the largest logit, in pixels; float32 in the official order.
template <typename T>
LANE_HD float row_column_px(T const* logits, int stride, int cells, int window, int peak,
                            int length_px) {
    float const largest = to_float(logits[static_cast<std::int64_t>(peak) * stride]);
    int const first = peak > window ? peak - window : 0;
    int const last = cells - 1 - peak > window ? peak + window : cells - 1;
    float sum = 0.0f, expected = 0.0f;
    for (int g = first; g <= last; ++g) {
        sum += exp32(to_float(logits[static_cast<std::int64_t>(g) * stride]) - largest);
    }
    for (int g = first; g <= last; ++g) {
        float const logit = to_float(logits[static_cast<std::int64_t>(g) * stride]);
        expected += exp32(logit - largest) / sum * static_cast<float>(g);
    }
    return (expected + 0.5f) / static_cast<float>(cells - 1) * static_cast<float>(length_px);
}

// A tie of the two classes is "no lane here", the first class, as the official argmax has it.
LANE_HD bool row_column_exists(float no, float yes) {
    return finite(no) && finite(yes) && yes > no;
}

LANE_HD float row_column_chance(float no, float yes) { return 1.0f / (1.0f + exp32(-(yes - no))); }

// One lane's points in one frame: of its rows, its columns or both.
struct RowColumnPoints {
    RowColumnAnchorParams const& p;
    RowColumnPlace const* places;  // (rows + columns, lanes)
    int lane;
    bool rows, columns;
    bool upright;  // for a parabola x(y); else y(x)

    LANE_HD bool at(int i, double* along, double* value) const {
        bool const on_row = i < p.rows;
        if (on_row ? !rows : !columns) return false;
        float const px = places[i * p.lanes + lane].px;
        double const x = on_row ? static_cast<double>(px) : p.column_px(i - p.rows);
        double const y = on_row ? p.row_px(i) : static_cast<double>(px);
        *along = upright ? y : x;
        *value = upright ? x : y;
        return px == px;
    }
};

// An entry in one frame: whether it is a lane, from which heads, and its score.
struct RowColumnFound {
    bool rows, columns;
    float score;
};

template <typename Sum>
LANE_HD RowColumnFound row_column_found(RowColumnAnchorParams const& p,
                                        RowColumnAnchorParams::Entry const& entry,
                                        RowColumnPlace const* places, Sum const& over) {
    double rows = 0.0, columns = 0.0, row_chance = 0.0, column_chance = 0.0;
    for (int i = over.first(); i < p.rows + p.columns; i += over.step()) {
        RowColumnPlace const place = places[i * p.lanes + entry.lane];
        if (place.px != place.px) continue;
        (i < p.rows ? rows : columns) += 1.0;
        (i < p.rows ? row_chance : column_chance) += place.chance;
    }
    rows = over.sum(rows);
    columns = over.sum(columns);
    row_chance = over.sum(row_chance);
    column_chance = over.sum(column_chance);
    bool const on_rows = entry.in_rows && rows > p.above_rows;
    bool const on_columns = entry.in_columns && columns > p.above_columns;
    if ((entry.if_rows && !on_rows) || (entry.unless_rows && on_rows)) return {false, false, 0.0f};
    double const count = (on_rows ? rows : 0.0) + (on_columns ? columns : 0.0);
    double const chance = (on_rows ? row_chance : 0.0) + (on_columns ? column_chance : 0.0);
    return {on_rows, on_columns, static_cast<float>(count > 0.0 ? chance / count : 0.0)};
}

LANE_HD void row_column_point(double x, double y, bool present, float* point) {
    point[0] = present ? static_cast<float>(x) : nan_float();
    point[1] = present ? static_cast<float>(y) : nan_float();
}

// The parabola that replaces a lane's points.
struct RowColumnCurve {
    Parabola fit;
    bool across;  // y(x) instead of x(y)
};

// Through the points of rows and columns together, along the axis that leaves the smaller error.
template <typename Sum>
LANE_HD RowColumnCurve row_column_curve(RowColumnAnchorParams const& p, int lane,
                                        RowColumnFound found, RowColumnPlace const* places,
                                        Sum const& over) {
    int const size = p.rows + p.columns;
    RowColumnPoints points{p, places, lane, found.rows, found.columns, true};
    RowColumnCurve const upright{fitted(points, size, over), false};
    double const error = mean_error(upright.fit, points, size, over);
    points.upright = false;
    RowColumnCurve const flat{fitted(points, size, over), true};
    return error > mean_error(flat.fit, points, size, over) ? flat : upright;
}

// Writes the points (width, 2) of an entry, with gaps. `curve` is read when there is a refit.
template <typename Sum>
LANE_HD void row_column_draft(RowColumnAnchorParams const& p,
                              RowColumnAnchorParams::Entry const& entry, RowColumnFound found,
                              RowColumnCurve const& curve, RowColumnPlace const* places,
                              Sum const& over, float* draft) {
    bool const merged = p.refit == Refit::kMerged;
    int const after_rows = entry.in_rows && !entry.unless_rows ? p.rows : 0;
    for (int i = over.first(); i < p.width; i += over.step()) {
        float* point = draft + 2 * i;
        int const k = i - after_rows;
        if (merged) {
            Parabola const& fit = curve.fit;
            int const count = curve.across ? p.kAcross : p.kAlong;
            double const step = (fit.most - fit.least) / (count - 1);
            double const along = p.spaced(fit.least, step, fit.most, count, i);
            double const value = fit.at(along);
            row_column_point(curve.across ? along : value, curve.across ? value : along,
                             fit.count >= 3 && i < count, point);
        } else if (k < 0) {
            float const x = places[i * p.lanes + entry.lane].px;
            row_column_point(x, p.row_px(i), found.rows && x == x, point);
        } else {
            int const column = k < p.columns ? k : 0;
            float const y = places[(p.rows + column) * p.lanes + entry.lane].px;
            row_column_point(p.column_px(column), y, found.columns && k < p.columns && y == y,
                             point);
        }
    }
}

struct RowColumnAnchor {
    using Params = RowColumnAnchorParams;
    static constexpr int kLeastPoints = 1;

    static Params make(Fields const& fields);
    static std::vector<Shape> head_shapes(Params const& p) {
        return {{p.row_cells, p.rows, p.lanes},
                {p.column_cells, p.columns, p.lanes},
                {2, p.rows, p.lanes},
                {2, p.columns, p.lanes}};
    }
    static int slots(Params const& p) { return p.slots; }
    static int points(Params const& p) { return p.width; }
    static std::size_t workspace_bytes(Params const& p, int batch) {
        std::size_t const entries = static_cast<std::size_t>(batch) * p.entries;
        return entries * (sizeof(RowColumnCurve) + sizeof(RowColumnFound)) +
               static_cast<std::size_t>(batch) * p.places() * sizeof(RowColumnPlace) +
               Drafts::bytes(p.entries, p.width, batch);
    }

    template <typename T>
    static void decode(Params const& p, Heads const& heads, int batch, Lanes const& lanes);

    static cudaError_t launch(Params const& p, Heads const& heads, int batch, Lanes const& lanes,
                              void* workspace, cudaStream_t stream);
};

}  // namespace trt_lane

#include "row_column_anchor/row_column_anchor_host.h"
