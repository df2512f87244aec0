// Row and column anchors on a CPU, and what is made of the fields. Included by
// row_column_anchor.h.
#pragma once

#include "row_column_anchor/row_column_anchor.h"

namespace trt_lane {

inline RowColumnAnchorParams RowColumnAnchor::make(Fields const& fields) {
    Params p{};
    p.frame_h = static_cast<int>(fields.numbers("frame_hw")[0]);
    p.frame_w = static_cast<int>(fields.numbers("frame_hw")[1]);
    p.rows = fields.integer("rows");
    p.columns = fields.integer("columns");
    p.row_cells = fields.integer("row_cells");
    p.column_cells = fields.integer("column_cells");
    p.lanes = fields.integer("lanes");
    p.window = fields.integer("window");
    p.top = fields.number("top");
    p.bottom = fields.number("bottom");
    if (!(p.top < p.bottom)) fields.refuse("top must be below bottom, both as fractions");
    p.row_step = (p.bottom - p.top) / std::max(p.rows - 1, 1);
    p.column_step = 1.0 / std::max(p.columns - 1, 1);
    p.above_rows = fields.number("above_rows");
    p.above_columns = fields.number("above_columns");
    p.refit = fields.text("refit") == "merged" ? Refit::kMerged : Refit::kNone;
    bool in_rows[64] = {}, in_columns[64] = {};
    auto const read = [&](char const* name, bool* in) {
        for (double number : fields.numbers(name)) {
            int const lane = static_cast<int>(number);
            if (lane >= p.lanes || in[lane]) {
                fields.refuse(std::string(name) + " has " + std::to_string(lane) +
                              "; expected lanes from 0 to " + std::to_string(p.lanes - 1) +
                              ", each once");
            }
            in[lane] = true;
        }
    };
    read("row_lanes", in_rows);
    read("column_lanes", in_columns);
    auto const add = [&](double number, bool if_rows, bool of_columns) {
        auto const lane = static_cast<std::int8_t>(number);
        bool const rows = in_rows[lane];
        p.entry[p.entries++] = {lane, rows, in_columns[lane], if_rows,
                                static_cast<std::int8_t>(of_columns && rows)};
    };
    if (p.refit == Refit::kMerged) {
        for (int lane = 0; lane < p.lanes; ++lane) {
            if (in_rows[lane] || in_columns[lane]) add(lane, false, false);
        }
        p.width = Params::kAlong;
    } else {
        for (double lane : fields.numbers("row_lanes")) add(lane, true, false);
        for (double lane : fields.numbers("column_lanes")) add(lane, false, true);
        p.width = 1;
        for (int i = 0; i < p.entries; ++i) {
            int const of_rows = p.entry[i].if_rows ? p.rows : 0;
            int const of_columns = p.entry[i].in_columns ? p.columns : 0;
            p.width = std::max(p.width, of_rows + of_columns);
        }
    }
    if (p.entries == 0) p.entry[p.entries++] = {};  // one that is read nowhere
    p.slots = fields.integer("slots") ? fields.integer("slots") : p.entries;
    return p;
}

// All anchors of one pair of heads side by side, cell by cell: loops that become vector code.
template <typename T>
void row_column_locate(T const* logits, T const* exist, int anchors, int cells, int window,
                       int length_px, RowColumnPlace* places) {
    std::vector<float> largest(anchors, -INFINITY), unsound(anchors, 0.0f);
    std::vector<std::int32_t> peak(anchors, 0);
    for (int g = 0; g < cells; ++g) {
        T const* row = logits + static_cast<std::size_t>(g) * anchors;
        for (int a = 0; a < anchors; ++a) {
            float const logit = to_float(row[a]);
            unsound[a] += logit * 0.0f;  // 0, or NaN from NaN and infinity on
            peak[a] = logit > largest[a] ? g : peak[a];
            largest[a] = logit > largest[a] ? logit : largest[a];
        }
    }
    for (int a = 0; a < anchors; ++a) {
        float const no = to_float(exist[a]), yes = to_float(exist[anchors + a]);
        bool const here = unsound[a] == 0.0f && row_column_exists(no, yes);
        places[a] = here ? RowColumnPlace{row_column_px(logits + a, anchors, cells, window, peak[a],
                                                        length_px),
                                          row_column_chance(no, yes)}
                         : RowColumnPlace{nan_float(), 0.0f};
    }
}

template <typename T>
void RowColumnAnchor::decode(Params const& p, Heads const& heads, int batch, Lanes const& lanes) {
    std::vector<RowColumnPlace> places(p.places());
    std::vector<float> draft(2 * static_cast<std::size_t>(p.width));
    int const of_rows = p.row_places(), of_columns = p.columns * p.lanes;
    SerialSum const over;
    for (int n = 0; n < batch; ++n) {
        auto const frame = static_cast<std::size_t>(n);
        row_column_locate(heads.as<T>(0) + frame * p.row_cells * of_rows,
                          heads.as<T>(2) + frame * 2 * of_rows, of_rows, p.row_cells, p.window,
                          p.frame_w, places.data());
        row_column_locate(heads.as<T>(1) + frame * p.column_cells * of_columns,
                          heads.as<T>(3) + frame * 2 * of_columns, of_columns, p.column_cells,
                          p.window, p.frame_h, places.data() + of_rows);
        LaneWriter writer(lanes, n, p.slots, p.width);
        for (int i = 0; i < p.entries; ++i) {
            auto const found = row_column_found(p, p.entry[i], places.data(), over);
            if (!found.rows && !found.columns) continue;
            RowColumnCurve curve{};
            if (p.refit != Refit::kNone) {
                curve = row_column_curve(p, p.entry[i].lane, found, places.data(), over);
            }
            row_column_draft(p, p.entry[i], found, curve, places.data(), over, draft.data());
            write_draft(writer, draft.data(), p.width, kLeastPoints, found.score);
        }
    }
}

}  // namespace trt_lane
