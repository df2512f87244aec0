// Line anchors on a CPU: the best candidates one at a time, since few are looked at before the NMS
// has what it keeps, and distances in vector code. Included by line_anchor.h.
#pragma once

#include <functional>

#include "line_anchor/line_anchor.h"

namespace trt_lane {

// Lines that may be a lane, the best taken first; of equal scores the earlier.
class LineAnchorQueue {
public:
    explicit LineAnchorQueue(int anchors) : likely_(anchors), keys_(anchors) {}

    template <typename T>
    void fill(LineAnchorParams const& p, LineAnchorHeads<T> const& heads) {
        int count = 0;
        for (int a = 0; a < p.anchors; ++a) {
            // Not "unless below": the margin of NaN and of infinities is NaN.
            bool const likely = heads.logit(a, 1) - heads.logit(a, 0) >= p.least_margin;
            likely_[count] = a;
            count += likely;
        }
        end_ = keys_.begin();
        for (int i = 0; i < count; ++i) {
            int const a = likely_[i];
            float const score = line_anchor_score(heads.logit(a, 0), heads.logit(a, 1));
            if (line_anchor_likely(p, score)) *end_++ = key(score, a);
        }
        std::make_heap(keys_.begin(), end_, std::greater<>());
    }

    // The next anchor and its score, or -1.
    int take(float* score) {
        if (end_ == keys_.begin()) return -1;
        std::pop_heap(keys_.begin(), end_--, std::greater<>());
        *score = float_from_bits(~static_cast<std::uint32_t>(*end_ >> 32));
        return static_cast<int>(*end_ & 0xffffffffu);
    }

private:
    // Smaller for the better: bits of numbers that are not negative are in the numbers' order.
    static std::uint64_t key(float score, int anchor) {
        return static_cast<std::uint64_t>(~float_bits(score)) << 32 | static_cast<unsigned>(anchor);
    }

    std::vector<int> likely_;
    std::vector<std::uint64_t> keys_;  // a heap
    std::vector<std::uint64_t>::iterator end_;
};

// Lines that the NMS has kept of one frame, in columns and units of its own.
class LineAnchorKept {
public:
    explicit LineAnchorKept(LineAnchorParams const& p) : p_(p), line_(p.columns()) {}

    void clear() {
        spans_.clear();
        lines_.clear();
    }
    bool full() const { return static_cast<int>(spans_.size()) == p_.most; }

    // Keeps a line unless it is near a kept one.
    template <typename T>
    bool add(LineAnchorHeads<T> const& heads, int anchor) {
        for (int c = 0; c < LineAnchorParams::kPrefix; ++c) line_[c] = heads.column(p_, anchor, c);
        T const* xs = heads.xs + static_cast<std::size_t>(anchor) * p_.offsets;
        float* to = line_.data() + LineAnchorParams::kPrefix;
        for (int i = 0; i < p_.offsets; ++i) to[i] = to_float(xs[i]) * p_.x_px;
        LineSpan const span = line_anchor_span(p_, line_[2], line_[4]);
        float const* other = lines_.data();
        for (LineSpan const& kept : spans_) {
            if (near(other, line_anchor_overlap(p_, kept, span))) return false;
            other += line_.size();
        }
        spans_.push_back(span);
        lines_.insert(lines_.end(), line_.begin(), line_.end());
        return true;
    }

private:
    // The definition sums one column after the other, and so rounds after each: at most 1029
    // roundings of 6e-8, whatever the order. Only a sum this close to the limit needs that order.
    static constexpr float kRounding = 2e-4f;
    static constexpr int kSide = 8;

    bool near(float const* other, LineOverlap both) const {
        float const* line = line_.data() + both.begin;
        other += both.begin;
        int const count = both.stop - both.begin + 1;
        float const doubt = kRounding * std::fabs(both.limit);
        float const rough = distance(line, other, count, both.limit + doubt);
        if (rough > both.limit + doubt) return false;
        if (rough < both.limit - doubt) return true;
        float total = 0.0f;
        for (int i = 0; i < count; ++i) total += std::fabs(other[i] - line[i]);
        return total < both.limit;
    }

    // Summed as is fastest, and only until it is more than `enough`.
    static float distance(float const* a, float const* b, int count, float enough) {
        float parts[kSide] = {}, total = 0.0f;
        int i = 0;
        for (; i + kSide <= count && !(total > enough); i += kSide) {
            for (int k = 0; k < kSide; ++k) parts[k] += std::fabs(a[i + k] - b[i + k]);
            total = ((parts[0] + parts[4]) + (parts[1] + parts[5])) +
                    ((parts[2] + parts[6]) + (parts[3] + parts[7]));
        }
        if (total > enough) return total;
        for (; i < count; ++i) total += std::fabs(a[i] - b[i]);
        return total;
    }

    LineAnchorParams const& p_;
    std::vector<float> line_;   // the one in question
    std::vector<float> lines_;  // (kept, columns)
    std::vector<LineSpan> spans_;
};

// Whether none of a line's numbers is NaN or infinite.
template <typename T>
bool line_anchor_sound(LineAnchorParams const& p, LineAnchorHeads<T> const& heads, int anchor) {
    std::size_t const a = anchor;
    return all_finite(heads.cls + 2 * a, 2) &&
           all_finite(heads.extent + a * p.extent_channels, p.extent_channels) &&
           all_finite(heads.xs + a * p.offsets, p.offsets);
}

// Gives a line its slot when it has points enough. `places`: room for x of all offsets.
template <typename T>
void write_line_anchor(LineAnchorParams const& p, LineAnchorHeads<T> const& heads, int anchor,
                       float score, float* places, LaneWriter& writer) {
    T const* xs = heads.xs + static_cast<std::size_t>(anchor) * p.offsets;
    for (int i = 0; i < p.offsets; ++i) places[i] = line_anchor_place(p, to_float(xs[i]));
    int bottom = line_anchor_start(p, heads.start_y(p, anchor));
    int const cut = line_anchor_cut(p, bottom, heads.length(p, anchor));
    while (bottom > 0 && line_anchor_inside(places[bottom - 1])) --bottom;
    int count = 0;
    for (int i = bottom; i < cut; ++i) count += places[i] >= 0.0f;
    float* point = count < LineAnchor::kLeastPoints ? nullptr : writer.next(score);
    for (int i = bottom; point && i < cut; ++i) {
        if (!(places[i] >= 0.0f)) continue;
        line_anchor_point(p, i, places[i], true, point);
        point += 2;
    }
}

template <typename T>
void LineAnchor::decode(Params const& p, Heads const& heads, int batch, Lanes const& lanes) {
    LineAnchorQueue queue(p.anchors);
    LineAnchorKept kept(p);
    std::vector<float> places(p.offsets);
    for (int n = 0; n < batch; ++n) {
        auto const frame = LineAnchorHeads<T>::of(p, heads, n);
        LaneWriter writer(lanes, n, p.slots, p.offsets);
        queue.fill(p, frame);
        kept.clear();
        float score;
        for (int a; !kept.full() && (a = queue.take(&score)) >= 0;) {
            if (line_anchor_sound(p, frame, a) && kept.add(frame, a)) {
                write_line_anchor(p, frame, a, score, places.data(), writer);
            }
        }
    }
}

}  // namespace trt_lane
