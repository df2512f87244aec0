// Segmentation on a CPU: only where a lane can be likely enough, probabilities are worked out and
// blurred. Included by segmentation.h.
#pragma once

#include "segmentation/segmentation_rows.h"

namespace trt_lane {

// Finds the columns of one frame's lanes, row after row from the bottom.
template <typename T>
class SegmentationReader {
public:
    explicit SegmentationReader(SegmentationParams const& p)
        : p_(p),
          half_(p.blur / 2),
          rows_(p),
          surely_below_(margin_below(p.threshold)),
          hot_known_(p.map_h),
          hot_(static_cast<std::size_t>(p.map_h) * p.map_w),
          near_(p.map_w),
          best_(p.map_w),
          vertical_(p.input_w + p.blur - 1),
          blurred_(p.input_w) {}

    // The frame's head and those of its lanes that are read.
    void start(T const* maps, int const* kept, int count) {
        maps_ = maps, kept_ = kept, count_ = count;
        rows_.start(maps, kept, count);
        std::fill(hot_known_.begin(), hot_known_.end(), char{0});
    }

    // Each lane's column in a row of the map, or -1.
    void read(int row, int* columns) {
        int const top = std::max(row - half_, 0), end = std::min(row + half_, p_.input_h - 1) + 1;
        find_spans(top, end);
        float largest[SegmentationParams::kMaxLanes];
        std::fill_n(largest, count_, -INFINITY);
        std::fill_n(columns, count_, 0);
        for (Span const& span : spans_) {
            for (int y = top; y < end; ++y) rows_.find(y, with_blur(span));
            for (int k = 0; k < count_; ++k) find_largest(k, row, span, &largest[k], &columns[k]);
        }
        for (int k = 0; k < count_; ++k) {
            columns[k] = segmentation_place(p_, columns[k], largest[k]);
        }
    }

private:
    // Interpolation along two axes rounds four times, each within 6e-8 of what goes into it.
    static constexpr float kRounding = 1e-6f;
    // Beyond that, a pixel that is unsound would not be surely below, either.
    static constexpr float kMostMargin = 50.0f;

    using Span = SegmentationSpan;

    // Background this far above a lane: its probability is below the threshold, and so is any mean
    // of such.
    static float margin_below(float threshold) {
        double const t = threshold;
        double const margin = t <= 0.0 ? INFINITY : (t >= 1.0 ? 0.0 : std::log(1.0 / t - 1.0));
        return margin > kMostMargin ? INFINITY : static_cast<float>(margin) + 0.01f;
    }

    std::size_t plane() const { return static_cast<std::size_t>(p_.map_h) * p_.map_w; }

    Span with_blur(Span span) const {
        return {std::max(span.begin - half_, 0), std::min(span.end + half_, p_.input_w)};
    }

    // Where any of the lanes may be above the threshold, in one row of the head.
    unsigned char const* hot_row(int y) {
        int const width = p_.map_w;  // what is written below could be p_ for all the compiler knows
        std::size_t const first = static_cast<std::size_t>(y) * width;
        unsigned char* hot = hot_.data() + first;
        if (hot_known_[y]) return hot;
        hot_known_[y] = 1;
        T const* background = maps_ + first;
        float* best = best_.data();
        std::fill(best_.begin(), best_.end(), -INFINITY);
        for (int k = 0; k < count_; ++k) {
            T const* lane = background + (kept_[k] + 1) * plane();
            for (int x = 0; x < width; ++x) {
                float const logit = to_float(lane[x]);
                best[x] = logit > best[x] ? logit : best[x];
            }
        }
        for (int x = 0; x < width; ++x) {
            float const other = to_float(background[x]);
            float const slack = kRounding * (std::fabs(other) + std::fabs(best[x]));
            // Not "at most": NaN is looked at in full.
            hot[x] = !(other - best[x] > surely_below_ + slack);
        }
        return hot;
    }

    // Columns whose box of the filter holds a hot pixel, for rows [top, end).
    void find_spans(int top, int end) {
        int const last = rows_.last_row(end - 1);
        std::fill(near_.begin(), near_.end(), static_cast<unsigned char>(0));
        unsigned char* near = near_.data();
        int const width = p_.map_w;
        for (int y = rows_.first_row(top); y <= last; ++y) {
            unsigned char const* hot = hot_row(y);
            for (int x = 0; x < width; ++x) near[x] |= hot[x];
        }
        spans_.clear();
        for (int x = 0; x < p_.input_w; ++x) {
            if (!near[rows_.first_column(x)] && !near[rows_.last_column(x)]) continue;
            Span const span{std::max(x - half_, 0), std::min(x + half_ + 1, p_.input_w)};
            if (!spans_.empty() && span.begin <= spans_.back().end) {
                spans_.back().end = span.end;
            } else {
                spans_.push_back(span);
            }
        }
    }

    // The largest blurred probability of a lane in a span, if it is larger than what was found.
    void find_largest(int k, int row, Span span, float* largest, int* column) {
        Span const all = with_blur(span);
        double *vertical = vertical_.data() + half_, *blurred = blurred_.data();
        std::fill(vertical + all.begin, vertical + all.end, 0.0);
        for (int dy = -half_; dy <= half_; ++dy) {
            float const* from = rows_.row(k, std::clamp(row + dy, 0, p_.input_h - 1));
            for (int x = all.begin; x < all.end; ++x) vertical[x] += from[x];
        }
        for (int x = 1; x <= half_; ++x) {  // the outermost columns go on beyond the map
            if (all.begin == 0) vertical[-x] = vertical[0];
            if (all.end == p_.input_w) vertical[p_.input_w - 1 + x] = vertical[p_.input_w - 1];
        }
        std::fill(blurred + span.begin, blurred + span.end, 0.0);
        for (int dx = -half_; dx <= half_; ++dx) {
            for (int x = span.begin; x < span.end; ++x) blurred[x] += vertical[x + dx];
        }
        double const scale = 1.0 / (p_.blur * p_.blur);
        for (int x = span.begin; x < span.end; ++x) {
            float const value = static_cast<float>(blurred[x] * scale);
            if (value > *largest) *largest = value, *column = x;
        }
    }

    SegmentationParams const& p_;
    int half_;
    SegmentationRows<T> rows_;
    float surely_below_;
    T const* maps_ = nullptr;
    int const* kept_ = nullptr;
    int count_ = 0;
    std::vector<char> hot_known_;            // (h,)
    std::vector<unsigned char> hot_, near_;  // (h, w), (w,)
    std::vector<float> best_;                // (w,)
    std::vector<Span> spans_;
    std::vector<double> vertical_;  // (W + blur - 1,) sums down the filter's columns
    std::vector<double> blurred_;   // (W,)
};

template <typename T>
void Segmentation::decode(Params const& p, Heads const& heads, int batch, Lanes const& lanes) {
    SegmentationReader<T> reader(p);
    std::vector<int> columns(static_cast<std::size_t>(p.points) * Params::kMaxLanes);
    for (int n = 0; n < batch; ++n) {
        T const* logits = heads.as<T>(1) + static_cast<std::size_t>(n) * p.lanes;
        float existence[Params::kMaxLanes];
        for (int i = 0; i < p.lanes; ++i) {
            existence[i] = segmentation_existence(to_float(logits[i]));
        }
        int kept[Params::kMaxLanes];
        int const count = segmentation_select(p, existence, kept);
        reader.start(
            heads.as<T>(0) + static_cast<std::size_t>(n) * (p.lanes + 1) * p.map_h * p.map_w, kept,
            count);
        LaneWriter writer(lanes, n, p.slots, p.points);
        int rows = 0;  // further up, the frame has ended
        for (; count && rows < p.points && segmentation_row(p, rows) >= 0; ++rows) {
            reader.read(segmentation_row(p, rows), &columns[rows * Params::kMaxLanes]);
        }
        for (int k = 0; k < count; ++k) {
            int found = 0;
            for (int j = 0; j < rows; ++j) found += columns[j * Params::kMaxLanes + k] >= 0;
            if (found < kMinPoints) continue;
            float* at = writer.next(existence[kept[k]]);
            for (int j = 0; at && j < rows; ++j) {
                int const column = columns[j * Params::kMaxLanes + k];
                if (column < 0) continue;
                *at++ = static_cast<float>(segmentation_x(p, column));
                *at++ = segmentation_y(p, j);
            }
        }
    }
}

}  // namespace trt_lane
