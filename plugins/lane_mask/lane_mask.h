// Lane masks (TwinLiteNet): the maths; trt_lane/decoders/lane_mask.py is the definition.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "common/decoder.h"

namespace trt_lane {

struct LaneMaskParams {
    static constexpr int kMaxRows = 4096;  // the YAML says so too
    static constexpr int kMaxLanes = 64;

    int height, width, min_area_px, min_rows, row_step, max_lanes, slots, points;
    double threshold, scale_x, scale_y;  // the threshold is one of the logit
};

// Pixels of the mask side by side in a row.
struct LaneMaskRun {
    std::int16_t first, last;
};

// Room for the runs of a row.
LANE_HD int lane_mask_runs(LaneMaskParams const& p) { return (p.width + 1) / 2; }

// Logit of the lane's probability; -inf where a logit is not finite.
LANE_HD float lane_mask_margin(float background, float foreground) {
    return finite(background) && finite(foreground) ? foreground - background : -INFINITY;
}

LANE_HD bool lane_mask_is_lane(LaneMaskParams const& p, float margin) {
    return static_cast<double>(margin) > p.threshold;
}

// Columns that two runs of neighbouring rows have in common; -1: they touch at a corner. Less: not.
LANE_HD int lane_mask_shared(LaneMaskRun a, LaneMaskRun b) {
    int const first = a.first > b.first ? a.first : b.first;
    int const last = a.last < b.last ? a.last : b.last;
    return last - first;
}

// Components are told in the order of their first square of 2 x 2 pixels, which is OpenCV's: it
// labels squares, and all lane pixels of one are connected.
LANE_HD int lane_mask_square(LaneMaskParams const& p, int row, int first) {
    return row / 2 * ((p.width + 1) / 2) + first / 2;
}

// How a line stands among the others: longer ones first, then the component's order, then that of
// the rows and columns where lines start.
struct LaneMaskRank {
    int length, square, start;
};

LANE_HD bool lane_mask_before(LaneMaskRank const& a, LaneMaskRank const& b) {
    if (a.length != b.length) return a.length > b.length;
    return a.square != b.square ? a.square < b.square : a.start < b.start;
}

LANE_HD void lane_mask_to_frame(LaneMaskParams const& p, LaneMaskRun run, int row, float* point) {
    point[0] = static_cast<float>((run.first + run.last) / 2.0 * p.scale_x);
    point[1] = static_cast<float>(row * p.scale_y);
}

struct LaneMask {
    using Params = LaneMaskParams;

    static Params make(Fields const& fields) {
        Params p{};
        p.height = static_cast<int>(fields.numbers("input_hw")[0]);
        p.width = static_cast<int>(fields.numbers("input_hw")[1]);
        p.min_area_px = fields.integer("min_area_px");
        p.min_rows = fields.integer("min_rows");
        p.row_step = fields.integer("row_step");
        p.max_lanes = fields.integer("max_lanes");
        p.slots = fields.integer("slots") ? fields.integer("slots") : p.max_lanes;
        p.points = (p.height + p.row_step - 1) / p.row_step;
        double const threshold = fields.number("threshold");
        p.threshold = std::log(threshold / (1.0 - threshold));
        p.scale_y = fields.numbers("frame_hw")[0] / p.height;
        p.scale_x = fields.numbers("frame_hw")[1] / p.width;
        return p;
    }

    static std::vector<Shape> head_shapes(Params const& p) {
        return {{2, p.height, p.width}, {2, p.height, p.width}};
    }
    static int slots(Params const& p) { return p.slots; }
    static int points(Params const& p) { return p.points; }
    static std::size_t workspace_bytes(Params const& p, int batch) {
        // See the arrays of Workspace in the .cu.
        std::size_t const runs = static_cast<std::size_t>(batch) * p.height * lane_mask_runs(p);
        return runs * (7 * sizeof(std::int32_t) + sizeof(LaneMaskRun) + 4 * sizeof(std::int16_t)) +
               static_cast<std::size_t>(batch) * (p.height + p.slots) * sizeof(std::int32_t);
    }

    template <typename T>
    static void decode(Params const& p, Heads const& heads, int batch, Lanes const& lanes) {
        std::size_t const area = static_cast<std::size_t>(p.height) * p.width;
        Graph graph;
        std::vector<float> margin(area);
        for (int n = 0; n < batch; ++n) {
            T const* background = heads.as<T>(1) + n * 2 * area;
            T const* foreground = background + area;
            for (std::size_t i = 0; i < area; ++i) {
                margin[i] = lane_mask_margin(to_float(background[i]), to_float(foreground[i]));
            }
            find_runs(p, margin.data(), &graph);
            join_rows(p, &graph);
            LaneWriter writer(lanes, n, p.slots, p.points);
            for (LaneMaskRank const& line : find_lines(p, &graph)) {
                write_line(p, graph, margin.data(), line, writer);
            }
        }
    }

    static cudaError_t launch(Params const& p, Heads const& heads, int batch, Lanes const& lanes,
                              void* workspace, cudaStream_t stream);

private:
    struct Component {
        int area, top, bottom, square;
    };

    struct Pair {
        int shared, lower, upper;
    };

    struct Graph {
        std::vector<LaneMaskRun> runs;  // row by row
        std::vector<int> begin;         // (h + 1,) the first run of each row
        std::vector<int> row;           // of each run
        std::vector<int> above, below;  // the run that goes on with a run, or -1
        std::vector<int> parent;        // towards the first run of the component
        std::vector<Pair> pairs;
    };

    static void find_runs(Params const& p, float const* margin, Graph* graph) {
        graph->runs.clear();
        graph->row.clear();
        graph->begin.assign(1, 0);
        for (int y = 0; y < p.height; ++y, margin += p.width) {
            for (int x = 0; x < p.width; ++x) {
                if (!lane_mask_is_lane(p, margin[x])) continue;
                int const first = x;
                while (x + 1 < p.width && lane_mask_is_lane(p, margin[x + 1])) ++x;
                graph->runs.push_back(
                    {static_cast<std::int16_t>(first), static_cast<std::int16_t>(x)});
                graph->row.push_back(y);
            }
            graph->begin.push_back(static_cast<int>(graph->runs.size()));
        }
        graph->above.assign(graph->runs.size(), -1);
        graph->below.assign(graph->runs.size(), -1);
        graph->parent.resize(graph->runs.size());
        for (std::size_t i = 0; i < graph->runs.size(); ++i) graph->parent[i] = static_cast<int>(i);
    }

    static int find(std::vector<int>& parent, int run) {
        while (parent[run] != run) run = parent[run] = parent[parent[run]];
        return run;
    }

    // A line goes on with the run above that shares most columns with it; of equals the first.
    static void join_rows(Params const& p, Graph* graph) {
        for (int y = 1; y < p.height; ++y) {
            graph->pairs.clear();
            int first = graph->begin[y - 1];
            for (int i = graph->begin[y]; i < graph->begin[y + 1]; ++i) {
                LaneMaskRun const lower = graph->runs[i];
                while (first < graph->begin[y] && graph->runs[first].last < lower.first - 1) {
                    ++first;
                }
                for (int j = first; j < graph->begin[y] && graph->runs[j].first <= lower.last + 1;
                     ++j) {
                    graph->pairs.push_back({lane_mask_shared(lower, graph->runs[j]), i, j});
                    int const a = find(graph->parent, i), b = find(graph->parent, j);
                    graph->parent[std::max(a, b)] = std::min(a, b);
                }
            }
            std::stable_sort(graph->pairs.begin(), graph->pairs.end(),
                             [](Pair const& a, Pair const& b) { return a.shared > b.shared; });
            for (Pair const& pair : graph->pairs) {
                if (graph->above[pair.lower] >= 0 || graph->below[pair.upper] >= 0) continue;
                graph->above[pair.lower] = pair.upper;
                graph->below[pair.upper] = pair.lower;
            }
        }
    }

    // Lines of components that are no noise, the longest ones, from left to right at their starts.
    static std::vector<LaneMaskRank> find_lines(Params const& p, Graph* graph) {
        std::vector<Component> components(graph->runs.size(), {0, p.height, -1, 0});
        for (std::size_t i = 0; i < graph->runs.size(); ++i) {
            Component& of = components[find(graph->parent, static_cast<int>(i))];
            int const y = graph->row[i];
            int const square = lane_mask_square(p, y, graph->runs[i].first);
            of.square = of.area ? std::min(of.square, square) : square;
            of.area += graph->runs[i].last - graph->runs[i].first + 1;
            of.top = std::min(of.top, y);
            of.bottom = std::max(of.bottom, y);
        }
        std::vector<LaneMaskRank> lines;
        for (int i = 0; i < static_cast<int>(graph->runs.size()); ++i) {
            Component const& of = components[find(graph->parent, i)];
            if (graph->below[i] >= 0 || of.area < p.min_area_px ||
                of.bottom - of.top + 1 < p.min_rows) {
                continue;
            }
            int length = 0;
            for (int run = i; run >= 0; run = graph->above[run]) ++length;
            if (length >= p.min_rows) lines.push_back({length, of.square, i});
        }
        std::sort(lines.begin(), lines.end(), lane_mask_before);
        if (static_cast<int>(lines.size()) > p.max_lanes) lines.resize(p.max_lanes);
        std::stable_sort(lines.begin(), lines.end(), [&](auto const& a, auto const& b) {
            LaneMaskRun const left = graph->runs[a.start], right = graph->runs[b.start];
            return left.first + left.last < right.first + right.last;
        });
        return lines;
    }

    static void write_line(Params const& p, Graph const& graph, float const* margin,
                           LaneMaskRank const& line, LaneWriter& writer) {
        double sum = 0.0;
        int pixels = 0;
        for (int run = line.start; run >= 0; run = graph.above[run]) {
            float const* row = margin + static_cast<std::size_t>(graph.row[run]) * p.width;
            for (int x = graph.runs[run].first; x <= graph.runs[run].last; ++x) {
                sum += sigmoid32(row[x]);
                ++pixels;
            }
        }
        float* at = writer.next(static_cast<float>(sum / pixels));
        for (int run = line.start, i = 0; at && run >= 0; run = graph.above[run], ++i) {
            if (i % p.row_step) continue;
            lane_mask_to_frame(p, graph.runs[run], graph.row[run], at);
            at += 2;
        }
    }
};

}  // namespace trt_lane
