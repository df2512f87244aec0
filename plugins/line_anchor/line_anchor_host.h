// Line anchors on a CPU: lines side by side, eight at a time, so that sums in the order of the
// definition become vector code. Included by line_anchor.h.
#pragma once

#include "line_anchor/line_anchor.h"

namespace trt_lane {

// Lane NMS of one frame's candidates, best first.
template <typename T>
class LineAnchorNms {
public:
    LineAnchorNms(LineAnchorParams const& p, LineAnchorHeads<T> const& heads)
        : p_(p), heads_(heads), columns_(static_cast<std::size_t>(p.columns()) * kSide) {}

    // Anchors to keep, of those in the order of their scores.
    std::vector<int> const& keep(std::vector<int> const& candidates) {
        int const count = static_cast<int>(candidates.size());
        for (int first = 0; first < count && !full(); first += kSide) {
            load(candidates.data() + first, std::min(count - first, kSide));
            for (std::size_t k = 0; k < kept_.size(); ++k) drop_near(lines_[k].data(), spans_[k]);
            for (int side = 0; side < kSide && !full(); ++side) {
                if (!alive_[side]) continue;
                keep_side(side);
                drop_near(lines_.back().data(), spans_.back());
            }
        }
        return kept_;
    }

private:
    static constexpr int kSide = 8;

    bool full() const { return static_cast<int>(kept_.size()) == p_.most; }

    void load(int const* anchors, int count) {
        for (int side = 0; side < kSide; ++side) {
            alive_[side] = side < count;
            int const anchor = anchors[std::min(side, count - 1)];
            anchor_[side] = anchor;
            for (int c = 0; c < LineAnchorParams::kPrefix; ++c) {
                columns_[c * kSide + side] = heads_.column(p_, anchor, c);
            }
            span_[side] =
                line_anchor_span(p_, columns_[2 * kSide + side], columns_[4 * kSide + side]);
            T const* xs = heads_.xs + static_cast<std::size_t>(anchor) * p_.offsets;
            float* to = columns_.data() + LineAnchorParams::kPrefix * kSide + side;
            for (int i = 0; i < p_.offsets; ++i) to[i * kSide] = to_float(xs[i]) * p_.x_px;
        }
    }

    void keep_side(int side) {
        std::vector<float> line(p_.columns());
        for (int c = 0; c < p_.columns(); ++c) line[c] = columns_[c * kSide + side];
        lines_.push_back(std::move(line));
        spans_.push_back(span_[side]);
        kept_.push_back(anchor_[side]);
        alive_[side] = false;
    }

    void drop_near(float const* line, LineSpan span) {
        std::int32_t begin[kSide], stop[kSide];
        float limit[kSide], total[kSide] = {};
        int low = p_.columns(), high = -1;
        for (int side = 0; side < kSide; ++side) {
            LineOverlap const both =
                alive_[side] ? line_anchor_overlap(p_, span, span_[side]) : LineOverlap{1, 0, -1};
            begin[side] = both.begin;
            stop[side] = both.stop;
            limit[side] = both.limit;
            if (both.begin <= both.stop) low = std::min(low, both.begin);
            high = std::max(high, both.stop);
        }
        for (int c = low; c <= high; ++c) {
            float const here = line[c];
            float const* others = columns_.data() + static_cast<std::size_t>(c) * kSide;
            for (int side = 0; side < kSide; ++side) {
                float const apart = std::fabs(here - others[side]);
                total[side] += (c >= begin[side]) & (c <= stop[side]) ? apart : 0.0f;
            }
        }
        for (int side = 0; side < kSide; ++side) alive_[side] &= !(total[side] < limit[side]);
    }

    LineAnchorParams const& p_;
    LineAnchorHeads<T> const& heads_;
    std::vector<float> columns_;  // (columns, kSide)
    bool alive_[kSide];
    int anchor_[kSide];
    LineSpan span_[kSide];
    std::vector<std::vector<float>> lines_;  // of the kept
    std::vector<LineSpan> spans_;
    std::vector<int> kept_;
};

// Lines that may be a lane, best first; of equal scores the earlier.
template <typename T>
std::vector<int> line_anchor_candidates(LineAnchorParams const& p, LineAnchorHeads<T> const& heads,
                                        std::vector<float>* scores) {
    std::vector<int> found;
    for (int a = 0; a < p.anchors; ++a) {
        float const background = heads.logit(a, 0), lane = heads.logit(a, 1);
        // Not "below": the margin of NaN and of infinities is NaN.
        if (!(lane - background >= p.least_margin)) continue;
        float const score = line_anchor_score(background, lane);
        T const* extent = heads.extent + static_cast<std::size_t>(a) * p.extent_channels;
        if (!line_anchor_likely(p, score) || !all_finite(heads.cls + 2 * a, 2) ||
            !all_finite(extent, p.extent_channels) ||
            !all_finite(heads.xs + static_cast<std::size_t>(a) * p.offsets, p.offsets)) {
            continue;
        }
        (*scores)[a] = score;
        found.push_back(a);
    }
    std::stable_sort(found.begin(), found.end(),
                     [&](int a, int b) { return (*scores)[a] > (*scores)[b]; });
    return found;
}

template <typename T>
void LineAnchor::decode(Params const& p, Heads const& heads, int batch, Lanes const& lanes) {
    std::vector<float> scores(p.anchors), draft(2 * static_cast<std::size_t>(p.offsets));
    for (int n = 0; n < batch; ++n) {
        auto const frame = LineAnchorHeads<T>::of(p, heads, n);
        LaneWriter writer(lanes, n, p.slots, p.offsets);
        std::vector<int> const candidates = line_anchor_candidates(p, frame, &scores);
        LineAnchorNms<T> nms(p, frame);
        for (int const anchor : nms.keep(candidates)) {
            int const start = line_anchor_start(p, frame.start_y(p, anchor));
            int const cut = line_anchor_cut(p, start, frame.length(p, anchor));
            int bottom = start;
            while (bottom > 0 &&
                   line_anchor_inside(line_anchor_place(p, frame.x(p, anchor, bottom - 1)))) {
                --bottom;
            }
            for (int i = 0; i < p.offsets; ++i) {
                float const place = line_anchor_place(p, frame.x(p, anchor, i));
                bool const present = i >= bottom && i < cut && place >= 0.0f;
                line_anchor_point(p, i, place, present, &draft[2 * i]);
            }
            write_draft(writer, draft.data(), p.offsets, kLeastPoints, scores[anchor]);
        }
    }
}

}  // namespace trt_lane
