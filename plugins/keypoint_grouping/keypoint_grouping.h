// Key-point grouping (GANet): the maths; trt_lane/decoders/keypoint_grouping.py is the definition.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "common/decoder.h"

namespace trt_lane {

struct KeypointGroupingParams {
    static constexpr int kMaxRoots = 4096;  // the YAML says so too

    int heat_h, heat_w, crop_top, min_points, slots, points, roots;
    bool centre_map, whole_pixels;
    float threshold, root_rows, stride;
    double root_distance, scale_x, scale_y;
};

// A whole cell of the heat map.
struct KeypointCell {
    std::int32_t x, y;
};

// Probability clamped as the official one; 0 where the logit is not finite.
LANE_HD float keypoint_heat(float logit) {
    float const heat = sigmoid32(logit);
    float const least = 1e-4f, most = static_cast<float>(1.0 - 1e-4);
    return finite(logit) ? (heat < least ? least : heat > most ? most : heat) : 0.0f;
}

// The heat of a key point, 0 for any other cell. Neighbours outside the map have heat 0.
LANE_HD float keypoint_peak(KeypointGroupingParams const& p, float heat, float left, float right) {
    return heat >= left && heat >= right && heat > p.threshold ? heat : 0.0f;
}

LANE_HD bool keypoint_near(KeypointGroupingParams const& p, KeypointCell a, KeypointCell b) {
    double const x = a.x - b.x, y = a.y - b.y;
    return sqrt(x * x + y * y) <= p.root_distance;
}

// Whether the offset of a cell leads to a centre; never for NaN.
LANE_HD bool keypoint_reaches(KeypointGroupingParams const& p, KeypointCell cell, float to_root_x,
                              float to_root_y, KeypointCell centre) {
    double const x = static_cast<double>(static_cast<float>(cell.x) + to_root_x) - centre.x;
    double const y = static_cast<double>(static_cast<float>(cell.y) + to_root_y) - centre.y;
    return sqrt(x * x + y * y) <= p.root_distance;
}

LANE_HD bool keypoint_is_sound(KeypointCell cell, float within_x, float within_y) {
    return finite(static_cast<float>(cell.x) + within_x) &&
           finite(static_cast<float>(cell.y) + within_y);
}

// float32 until the input's pixels and float64 after them, as the official numbers are.
LANE_HD float keypoint_pixel(KeypointGroupingParams const& p, int cell, float within, double scale,
                             int crop) {
    float const input = (static_cast<float>(cell) + within) * p.stride;
    double const pixel = static_cast<double>(input) * scale + crop;
    return static_cast<float>(p.whole_pixels ? trunc(pixel) : pixel);
}

LANE_HD void keypoint_to_frame(KeypointGroupingParams const& p, KeypointCell cell, float within_x,
                               float within_y, float* point) {
    point[0] = keypoint_pixel(p, cell.x, within_x, p.scale_x, 0);
    point[1] = keypoint_pixel(p, cell.y, within_y, p.scale_y, p.crop_top);
}

struct KeypointGrouping {
    using Params = KeypointGroupingParams;

    static Params make(Fields const& fields) {
        Params p{};
        std::vector<double> const& frame = fields.numbers("frame_hw");
        std::vector<double> const& input = fields.numbers("input_hw");
        p.heat_h = static_cast<int>(fields.numbers("heat_hw")[0]);
        p.heat_w = static_cast<int>(fields.numbers("heat_hw")[1]);
        p.crop_top = fields.integer("crop_top");
        if (p.crop_top >= frame[0]) {
            fields.refuse("crop_top is " + std::to_string(p.crop_top) +
                          "; expected less than the frame's height, " + number_text(frame[0]));
        }
        if (fields.number("keypoint_threshold") >= 1.0) {
            fields.refuse("keypoint_threshold is 1; expected less");
        }
        p.min_points = std::max(fields.integer("min_points"), kMinPoints);
        p.slots = fields.integer("slots") ? fields.integer("slots") : kDefaultSlots;
        p.points =
            fields.integer("points") ? fields.integer("points") : std::min(4, p.heat_w) * p.heat_h;
        p.roots = fields.integer("roots");
        p.centre_map = fields.integer("cpts_maps");
        p.whole_pixels = fields.integer("whole_pixels");
        p.threshold = static_cast<float>(fields.number("keypoint_threshold"));
        p.root_rows = static_cast<float>(fields.number("root_rows"));
        p.root_distance = fields.number("root_distance");
        p.stride = static_cast<float>(input[0] / p.heat_h);
        p.scale_x = frame[1] / input[1];
        p.scale_y = (frame[0] - p.crop_top) / input[0];
        return p;
    }

    static std::vector<Shape> head_shapes(Params const& p) {
        std::vector<Shape> shapes{
            {1, p.heat_h, p.heat_w}, {2, p.heat_h, p.heat_w}, {2, p.heat_h, p.heat_w}};
        if (p.centre_map) shapes.push_back({1, p.heat_h, p.heat_w});
        return shapes;
    }
    static int slots(Params const& p) { return p.slots; }
    static int points(Params const& p) { return p.points; }
    static std::size_t workspace_bytes(Params const& p, int batch) {
        // See the arrays of Workspace in the .cu.
        return static_cast<std::size_t>(batch) *
               (p.roots * (sizeof(KeypointCell) + sizeof(std::int32_t)) +
                p.heat_h * p.heat_w * (sizeof(float) + sizeof(std::int32_t)) +
                2 * sizeof(std::int32_t));
    }

    template <typename T>
    static void decode(Params const& p, Heads const& heads, int batch, Lanes const& lanes) {
        std::size_t const cells = static_cast<std::size_t>(p.heat_h) * p.heat_w;
        Scratch scratch;
        scratch.heat.resize(p.heat_w + 2);
        for (int n = 0; n < batch; ++n) {
            T const* to_root = heads.as<T>(1) + n * 2 * cells;
            T const* within = heads.as<T>(2) + n * 2 * cells;
            LaneWriter writer(lanes, n, p.slots, p.points);
            find_keypoints(p, heads.as<T>(0) + n * cells, to_root + cells, &scratch);
            if (static_cast<int>(scratch.roots.size()) > p.roots) {
                scratch.roots.resize(p.roots);
                writer.overflow(kCandidatesDropped);
            }
            cluster_roots(p, &scratch);
            scratch.members.assign(scratch.centres.size(), {});
            // From the bottom row upwards; the official order is turned.
            for (int k = static_cast<int>(scratch.keypoints.size()) - 1; k >= 0; --k) {
                KeypointCell const cell = scratch.keypoints[k];
                std::size_t const at = static_cast<std::size_t>(cell.y) * p.heat_w + cell.x;
                if (!keypoint_is_sound(cell, to_float(within[at]), to_float(within[cells + at]))) {
                    continue;
                }
                for (std::size_t c = 0; c < scratch.centres.size(); ++c) {
                    if (keypoint_reaches(p, cell, to_float(to_root[at]),
                                         to_float(to_root[cells + at]), scratch.centres[c])) {
                        scratch.members[c].push_back(k);
                        break;
                    }
                }
            }
            for (std::vector<int> const& members : scratch.members) {
                if (static_cast<int>(members.size()) < p.min_points) continue;
                double sum = 0.0;
                for (int k : members) sum += scratch.peak[k];
                float* at = writer.next(static_cast<float>(sum / members.size()));
                if (!at) continue;
                int const count = std::min(static_cast<int>(members.size()), p.points);
                if (count < static_cast<int>(members.size())) writer.overflow(kPointsDropped);
                for (int i = 0; i < count; ++i) {
                    KeypointCell const cell = scratch.keypoints[members[i]];
                    std::size_t const here = static_cast<std::size_t>(cell.y) * p.heat_w + cell.x;
                    keypoint_to_frame(p, cell, to_float(within[here]),
                                      to_float(within[cells + here]), at + 2 * i);
                }
            }
        }
    }

    static cudaError_t launch(Params const& p, Heads const& heads, int batch, Lanes const& lanes,
                              void* workspace, cudaStream_t stream);

private:
    static constexpr int kMinPoints = 2, kDefaultSlots = 64;

    struct Scratch {
        std::vector<float> heat;              // (w + 2,) one row between two cells of heat 0
        std::vector<KeypointCell> keypoints;  // row by row
        std::vector<float> peak;              // the heat of each
        std::vector<KeypointCell> roots;      // column by column
        std::vector<int> label;               // the cluster of each root
        std::vector<KeypointCell> centres;
        std::vector<std::vector<int>> members;  // key points of each cluster
    };

    template <typename T>
    static void find_keypoints(Params const& p, T const* logits, T const* to_root_y,
                               Scratch* scratch) {
        scratch->keypoints.clear();
        scratch->peak.clear();
        scratch->roots.clear();
        float* heat = scratch->heat.data() + 1;
        heat[-1] = heat[p.heat_w] = 0.0f;
        for (int y = 0; y < p.heat_h; ++y) {
            T const* row = logits + static_cast<std::size_t>(y) * p.heat_w;
            for (int x = 0; x < p.heat_w; ++x) heat[x] = keypoint_heat(to_float(row[x]));
            for (int x = 0; x < p.heat_w; ++x) {
                float const peak = keypoint_peak(p, heat[x], heat[x - 1], heat[x + 1]);
                if (peak == 0.0f) continue;
                scratch->keypoints.push_back({x, y});
                scratch->peak.push_back(peak);
                bool const is_root =
                    to_float(to_root_y[static_cast<std::size_t>(y) * p.heat_w + x]) < p.root_rows;
                if (is_root) scratch->roots.push_back({x, y});
            }
        }
        std::stable_sort(scratch->roots.begin(), scratch->roots.end(),
                         [](KeypointCell a, KeypointCell b) { return a.x < b.x; });
    }

    // A root joins the first cluster with a member in reach, and never makes two clusters one.
    static void cluster_roots(Params const& p, Scratch* scratch) {
        std::vector<KeypointCell> const& roots = scratch->roots;
        scratch->label.resize(roots.size());
        scratch->centres.clear();
        std::vector<int> size;
        for (int i = 0; i < static_cast<int>(roots.size()); ++i) {
            int label = static_cast<int>(size.size());
            // Roots farther to the left than the reach are out of it.
            for (int j = i - 1; j >= 0 && roots[i].x - roots[j].x <= p.root_distance; --j) {
                if (keypoint_near(p, roots[i], roots[j])) {
                    label = std::min(label, scratch->label[j]);
                }
            }
            scratch->label[i] = label;
            if (label == static_cast<int>(size.size())) {
                size.push_back(0);
                scratch->centres.push_back({0, 0});
            }
            ++size[label];
            scratch->centres[label].x += roots[i].x;
            scratch->centres[label].y += roots[i].y;
        }
        for (std::size_t c = 0; c < size.size(); ++c) {
            scratch->centres[c].x /= size[c];
            scratch->centres[c].y /= size[c];
        }
    }
};

}  // namespace trt_lane
