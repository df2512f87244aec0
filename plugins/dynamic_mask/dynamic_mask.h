// Dynamic masks (CondLaneNet): the maths; trt_lane/decoders/dynamic_mask.py is the definition.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "common/decoder.h"

namespace trt_lane {

struct DynamicMaskParams {
    static constexpr int kMaxSlots = 128;  // the YAML says so too
    static constexpr int kMaxWidth = 512;  // of a mask

    int heat_h, heat_w, mask_h, mask_w, crop_top, starts, steps, lanes;
    float threshold_logit, limit_logit;
    double nms_cells, stride, scale_x, scale_y;
};

// A cell of the heat map that may be a lane's start.
struct DynamicMaskPeak {
    std::int32_t x, y;
    float heat;
};

// Sum of w[0 .. n) as numpy adds float32 along a contiguous axis: pairs of halves, down to at most
// 128, which eight running sums share. `Leaf` adds those.
template <int kHalvings, typename Leaf>
LANE_HD float dynamic_mask_pairwise(float const* w, int n, Leaf const& leaf) {
    if constexpr (kHalvings > 0) {
        if (n > 128) {
            int half = n / 2;
            half -= half % 8;
            return dynamic_mask_pairwise<kHalvings - 1>(w, half, leaf) +
                   dynamic_mask_pairwise<kHalvings - 1>(w + half, n - half, leaf);
        }
    }
    return leaf(w, n);
}

// 512 columns are at most 128 after so many halvings, odd halves included.
constexpr int kDynamicMaskHalvings = 3;

// A logit that is not finite is no peak; the official clamp makes one plateau of the high ones.
LANE_HD float dynamic_mask_heat(DynamicMaskParams const& p, float logit) {
    float const heat = finite(logit) ? logit : -20.0f;
    return heat < -p.limit_logit ? -p.limit_logit : heat > p.limit_logit ? p.limit_logit : heat;
}

template <typename T>
LANE_HD bool dynamic_mask_is_peak(DynamicMaskParams const& p, T const* logits, int x, int y,
                                  float heat) {
    bool peak = heat > p.threshold_logit;
    for (int v = y - 1; v <= y + 1; ++v) {
        for (int u = x - 1; u <= x + 1; ++u) {
            if (u < 0 || v < 0 || u >= p.heat_w || v >= p.heat_h) continue;
            peak = peak && heat >= dynamic_mask_heat(p, to_float(logits[v * p.heat_w + u]));
        }
    }
    return peak;
}

LANE_HD bool dynamic_mask_near(DynamicMaskParams const& p, DynamicMaskPeak const& a,
                               DynamicMaskPeak const& b) {
    double const x = a.x - b.x, y = a.y - b.y;
    return sqrt(x * x + y * y) <= p.nms_cells;
}

// Whether a slot's start point is drawn at all; not for NaN.
LANE_HD bool dynamic_mask_is_sure(DynamicMaskParams const& p, float peak) {
    return peak > p.threshold_logit;
}

LANE_HD float dynamic_mask_score(DynamicMaskParams const& p, float peak) {
    return sigmoid32(peak < p.limit_logit ? peak : p.limit_logit);
}

// Lanes of a start point, counted over all frames: up to and with the first state that names no
// other. Of a single step there are no states.
template <typename T>
LANE_HD int dynamic_mask_lanes(DynamicMaskParams const& p, T const* states, std::int64_t start) {
    if (p.steps == 1) return 1;
    states += 2 * start * p.steps;
    for (int step = 0; step < p.steps; ++step) {
        if (!(to_float(states[2 * step + 1]) > to_float(states[2 * step]))) return step + 1;
    }
    return p.steps;
}

// The expected column as an index, from the float64 sum of columns times probabilities. Rounded to
// float32 first: numpy's sum is one, and whole columns must not become a fraction less.
LANE_HD int dynamic_mask_column(DynamicMaskParams const& p, double expected) {
    int const column = static_cast<int>(static_cast<float>(expected));
    return column < p.mask_w ? column : p.mask_w - 1;
}

// Frame pixels of a column, its offset, and a row.
LANE_HD double dynamic_mask_x(DynamicMaskParams const& p, int column, float offset) {
    return (column + static_cast<double>(offset)) * p.stride * p.scale_x;
}

LANE_HD double dynamic_mask_y(DynamicMaskParams const& p, int row) {
    return row * p.stride * p.scale_y + p.crop_top;
}

struct DynamicMask {
    using Params = DynamicMaskParams;

    static Params make(Fields const& fields) {
        Params p{};
        std::vector<double> const& frame = fields.numbers("frame_hw");
        std::vector<double> const& input = fields.numbers("input_hw");
        auto const sizes = [&](char const* name, int* height, int* width) {
            *height = static_cast<int>(fields.numbers(name)[0]);
            *width = static_cast<int>(fields.numbers(name)[1]);
        };
        sizes("heat_hw", &p.heat_h, &p.heat_w);
        sizes("mask_hw", &p.mask_h, &p.mask_w);
        p.crop_top = fields.integer("crop_top");
        p.starts = fields.integer("slots");
        p.steps = fields.integer("steps");
        p.lanes = fields.integer("lanes") ? fields.integer("lanes") : p.starts * p.steps;
        if (p.crop_top >= frame[0]) {
            fields.refuse("crop_top is " + std::to_string(p.crop_top) +
                          "; expected less than the frame's height, " + number_text(frame[0]));
        }
        if (p.starts > p.heat_h * p.heat_w) {
            fields.refuse("slots is " + std::to_string(p.starts) +
                          "; expected at most one per cell of heat_hw");
        }
        double const threshold = fields.number("threshold");
        p.threshold_logit = static_cast<float>(std::log(threshold / (1.0 - threshold)));
        p.limit_logit = static_cast<float>(std::log(9999.0));
        p.nms_cells = fields.number("nms_cells");
        p.stride = input[0] / p.mask_h;
        p.scale_x = frame[1] / input[1];
        p.scale_y = (frame[0] - p.crop_top) / input[0];
        return p;
    }

    static std::vector<Shape> head_shapes(Params const& p) {
        std::vector<Shape> shapes{{1, p.heat_h, p.heat_w},
                                  {p.starts},
                                  {p.starts, p.mask_h, p.mask_w},
                                  {p.starts, p.mask_h, p.mask_w},
                                  {p.starts, 2, p.mask_h}};
        if (p.steps == 1) return shapes;
        for (int head = 2; head < 5; ++head) {
            shapes[head].insert(shapes[head].begin() + 1, p.steps);
        }
        shapes.push_back({p.starts, p.steps, 2});
        return shapes;
    }
    static int slots(Params const& p) { return p.lanes; }
    static int points(Params const& p) { return p.mask_h; }
    static std::size_t workspace_bytes(Params const& p, int batch) {
        // See the arrays of Workspace in the .cu.
        std::size_t const drawn = static_cast<std::size_t>(p.starts) * p.steps;
        return batch * (p.heat_h * p.heat_w * sizeof(DynamicMaskPeak) +
                        drawn * ((p.mask_h + 1) * sizeof(float) + 2 * sizeof(std::int32_t)) +
                        sizeof(std::int32_t));
    }

    template <typename T>
    static void decode(Params const& p, Heads const& heads, int batch, Lanes const& lanes) {
        std::size_t const area = static_cast<std::size_t>(p.mask_h) * p.mask_w;
        std::vector<float> points(2 * p.mask_h), weights(p.mask_w);
        for (int n = 0; n < batch; ++n) {
            T const* peaks = heads.as<T>(1) + static_cast<std::size_t>(n) * p.starts;
            LaneWriter writer(lanes, n, p.lanes, p.mask_h);
            T const* heat = heads.as<T>(0) + static_cast<std::size_t>(n) * p.heat_h * p.heat_w;
            for (int start : start_points(p, heat)) {
                float const peak = to_float(peaks[start]);
                if (!dynamic_mask_is_sure(p, peak)) continue;
                std::int64_t const entry = static_cast<std::int64_t>(n) * p.starts + start;
                std::size_t const first = entry * p.steps;
                int const count = dynamic_mask_lanes(p, heads.as<T>(5), entry);
                for (std::size_t at = first; at < first + count; ++at) {
                    int const found = read_lane(
                        p, heads.as<T>(2) + at * area, heads.as<T>(3) + at * area,
                        heads.as<T>(4) + at * 2 * p.mask_h, weights.data(), points.data());
                    if (found < kMinPoints) continue;
                    float* to = writer.next(dynamic_mask_score(p, peak));
                    if (to) std::copy_n(points.data(), 2 * found, to);
                }
            }
        }
    }

    static cudaError_t launch(Params const& p, Heads const& heads, int batch, Lanes const& lanes,
                              void* workspace, cudaStream_t stream);

    static constexpr int kMinPoints = 2;

private:
    // Slots of the start points that remain after neighbours were joined.
    template <typename T>
    static std::vector<int> start_points(Params const& p, T const* logits) {
        std::vector<DynamicMaskPeak> found;
        for (int x = 0; x < p.heat_w; ++x) {  // column by column
            for (int y = 0; y < p.heat_h; ++y) {
                float const heat = dynamic_mask_heat(p, to_float(logits[y * p.heat_w + x]));
                if (dynamic_mask_is_peak(p, logits, x, y, heat)) found.push_back({x, y, heat});
            }
        }
        if (static_cast<int>(found.size()) > p.starts) {  // the network kept the highest ones
            std::vector<DynamicMaskPeak> highest = found;
            std::stable_sort(highest.begin(), highest.end(),
                             [](auto const& a, auto const& b) { return a.heat > b.heat; });
            highest.resize(p.starts);
            std::sort(highest.begin(), highest.end(), [](auto const& a, auto const& b) {
                return a.x != b.x ? a.x < b.x : a.y < b.y;
            });
            found = highest;
        }
        std::vector<int> by_row(found.size()), label(found.size()), last;
        for (std::size_t i = 0; i < found.size(); ++i) by_row[i] = static_cast<int>(i);
        std::stable_sort(by_row.begin(), by_row.end(),
                         [&](int a, int b) { return found[a].y < found[b].y; });
        for (std::size_t i = 0; i < found.size(); ++i) {
            label[i] = static_cast<int>(last.size());
            for (std::size_t j = 0; j < i; ++j) {
                if (dynamic_mask_near(p, found[by_row[i]], found[by_row[j]])) {
                    label[i] = std::min(label[i], label[j]);
                }
            }
            if (label[i] == static_cast<int>(last.size())) last.push_back(0);
            // The official "highest score" never updates its maximum: the last one is taken.
            last[label[i]] = by_row[i];
        }
        return last;
    }

    // Points of a lane, bottom first, and how many.
    template <typename T>
    static int read_lane(Params const& p, T const* mask, T const* offsets, T const* present,
                         float* weights, float* points) {
        int first = p.mask_h, last = -1;
        for (int row = 0; row < p.mask_h; ++row) {
            if (to_float(present[p.mask_h + row]) > to_float(present[row])) {
                first = std::min(first, row);
                last = row;
            }
        }
        if (last < 0) return 0;
        // The official range takes in one more row on either side, and every row between.
        int found = 0;
        for (int row = std::min(last + 1, p.mask_h - 1); row >= std::max(first - 1, 0); --row) {
            T const* logits = mask + static_cast<std::size_t>(row) * p.mask_w;
            int const column = expected_column(p, logits, weights);
            if (column < 0) continue;
            double const x = dynamic_mask_x(
                p, column, to_float(offsets[static_cast<std::size_t>(row) * p.mask_w + column]));
            if (!finite(x)) continue;
            points[2 * found] = static_cast<float>(x);
            points[2 * found + 1] = static_cast<float>(dynamic_mask_y(p, row));
            ++found;
        }
        return found;
    }

    // -1 where a logit is not finite.
    template <typename T>
    static int expected_column(Params const& p, T const* logits, float* weights) {
        float unsound = 0.0f, largest = -INFINITY;
        for (int i = 0; i < p.mask_w; ++i) {
            float const logit = to_float(logits[i]);
            unsound += logit * 0.0f;
            largest = logit > largest ? logit : largest;
        }
        if (!(unsound == 0.0f)) return -1;
        for (int i = 0; i < p.mask_w; ++i) weights[i] = exp32(to_float(logits[i]) - largest);
        float const sum =
            dynamic_mask_pairwise<kDynamicMaskHalvings>(weights, p.mask_w, sum_of_few);
        double expected = 0.0;
        for (int i = 0; i < p.mask_w; ++i) expected += static_cast<double>(weights[i] / sum) * i;
        return dynamic_mask_column(p, expected);
    }

    static float sum_of_few(float const* w, int n) {
        float sums[8] = {};
        int const whole = n - n % 8;
        for (int i = 0; i < whole; i += 8) {
            for (int k = 0; k < 8; ++k) sums[k] += w[i + k];
        }
        float sum = ((sums[0] + sums[1]) + (sums[2] + sums[3])) +
                    ((sums[4] + sums[5]) + (sums[6] + sums[7]));
        for (int i = whole; i < n; ++i) sum += w[i];
        return sum;
    }
};

}  // namespace trt_lane
