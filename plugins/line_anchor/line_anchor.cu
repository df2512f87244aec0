// Line anchors on the GPU: scores by a warp per line, the NMS by a block per frame, points by a
// warp per lane.
#include "line_anchor/line_anchor.h"

#include "common/drafts_kernel.h"

namespace trt_lane {
namespace {

constexpr int kScoreWarps = 8;

template <typename T>
__global__ void __launch_bounds__(32 * kScoreWarps)
    line_anchor_score_kernel(LineAnchorParams p, Heads const __grid_constant__ all,
                             float* __restrict__ scores) {
    int const anchor = blockIdx.x * kScoreWarps + threadIdx.y, lane = threadIdx.x;
    if (anchor >= p.anchors) return;  // a whole warp
    auto const heads = LineAnchorHeads<T>::of(p, all, blockIdx.y);
    float const background = heads.logit(anchor, 0), foreground = heads.logit(anchor, 1);
    float score = -1.0f;
    if (foreground - background >= p.least_margin) {
        score = line_anchor_score(background, foreground);
        bool sound = finite(background) && finite(foreground) && line_anchor_likely(p, score);
        for (int i = lane; i < p.extent_channels; i += 32) {
            std::int64_t const at = static_cast<std::int64_t>(anchor) * p.extent_channels + i;
            sound = sound && finite(to_float(heads.extent[at]));
        }
        for (int i = lane; i < p.offsets; i += 32) {
            sound = sound && finite(heads.x(p, anchor, i));
        }
        if (!__all_sync(~0u, sound)) score = -1.0f;
    }
    if (lane == 0) scores[static_cast<std::int64_t>(blockIdx.y) * p.anchors + anchor] = score;
}

constexpr int kSelectThreads = 256;
constexpr int kSelectWarps = kSelectThreads / 32;

struct SelectShared {
    float line[LineAnchorParams::kMaxColumns];  // of the line kept last
    float tile[kSelectWarps][32][33];           // x of 32 lines at 32 offsets; odd, for the banks
    float score[kSelectWarps];
    int candidate[kSelectWarps];
    int count[kSelectWarps];
};

// Anchors with a score, in order, to `candidates`; their scores to the front. Gives their number.
__device__ inline int compacted(LineAnchorParams const& p, SelectShared& shared, float* scores,
                                std::int32_t* candidates) {
    int const thread = threadIdx.x, warp = thread / 32, lane = thread % 32;
    int found = 0;
    for (int base = 0; base < p.anchors; base += kSelectThreads) {
        int const anchor = base + thread;
        float const score = anchor < p.anchors ? scores[anchor] : -1.0f;
        unsigned const here = __ballot_sync(~0u, score >= 0.0f);
        if (lane == 0) shared.count[warp] = __popc(here);
        __syncthreads();  // all have read their scores: the front may be written
        int before = found;
        for (int w = 0; w < kSelectWarps; ++w) {
            before += w < warp ? shared.count[w] : 0;
            found += shared.count[w];
        }
        if (score >= 0.0f) {
            int const to = before + __popc(here & ((1u << lane) - 1));
            candidates[to] = anchor;
            scores[to] = score;
        }
        __syncthreads();
    }
    return found;
}

// The best candidate left, the first of equals; -1 when none is. The same for all threads.
__device__ inline int best_left(SelectShared& shared, float const* scores, int count) {
    int const thread = threadIdx.x, warp = thread / 32;
    float best = -1.0f;
    int at = -1;
    for (int k = thread; k < count; k += kSelectThreads) {
        if (scores[k] > best) best = scores[at = k];
    }
    for (int step = 16; step > 0; step /= 2) {
        float const score = __shfl_xor_sync(~0u, best, step);
        int const other = __shfl_xor_sync(~0u, at, step);
        if (score > best || (score == best && other < at)) best = score, at = other;
    }
    shared.score[warp] = best;
    shared.candidate[warp] = at;
    __syncthreads();
    for (int w = 0; w < kSelectWarps; ++w) {
        float const score = shared.score[w];
        int const other = shared.candidate[w];
        if (score > best || (score == best && other < at)) best = score, at = other;
    }
    return at;
}

// Takes the score of candidates near the line in shared memory: a thread each, a warp's x together.
template <typename T>
__device__ inline void drop_near(LineAnchorParams const& p, LineAnchorHeads<T> const& heads,
                                 SelectShared& shared, float* scores,
                                 std::int32_t const* candidates, int count) {
    constexpr int kPrefix = LineAnchorParams::kPrefix;
    int const warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    float const(&line)[LineAnchorParams::kMaxColumns] = shared.line;
    LineSpan const span = line_anchor_span(p, line[2], line[4]);
    for (int first = warp * 32; first < count; first += kSelectThreads) {
        int const k = first + lane;
        bool const alive = k < count && scores[k] >= 0.0f;
        unsigned const all_alive = __ballot_sync(~0u, alive);
        if (!all_alive) continue;
        int const anchor = candidates[k < count ? k : first];
        LineOverlap both{1, 0, -1.0f};
        if (alive) {
            float const length = heads.column(p, anchor, kPrefix - 1);
            both =
                line_anchor_overlap(p, span, line_anchor_span(p, heads.start_y(p, anchor), length));
        }
        float total = 0.0f;
        for (int c = both.begin; c < kPrefix && c <= both.stop; ++c) {
            total += fabsf(line[c] - heads.column(p, anchor, c));
        }
        for (int base = 0; base < p.offsets; base += 32) {
            // A sum that reached the limit stays there.
            bool const open = kPrefix + base <= both.stop && !(total >= both.limit);
            if (!__any_sync(~0u, open)) break;
            for (int row = 0; row < 32; ++row) {
                int const other = __shfl_sync(~0u, anchor, row);
                if ((all_alive >> row & 1) && base + lane < p.offsets) {
                    shared.tile[warp][row][lane] = heads.x(p, other, base + lane) * p.x_px;
                }
            }
            __syncwarp();
            int const begin = max(both.begin - kPrefix - base, 0);
            int const end = min(both.stop - kPrefix - base, 31);
            for (int i = begin; i <= end; ++i) {
                total += fabsf(line[kPrefix + base + i] - shared.tile[warp][lane][i]);
            }
            __syncwarp();
        }
        if (alive && total < both.limit) scores[k] = -1.0f;
    }
}

template <typename T>
__global__ void __launch_bounds__(kSelectThreads)
    line_anchor_select_kernel(LineAnchorParams p, Heads const __grid_constant__ all,
                              LineAnchorWorkspace space) {
    LANE_SHARED(SelectShared, shared);
    int const thread = threadIdx.x, frame = blockIdx.x;
    auto const heads = LineAnchorHeads<T>::of(p, all, frame);
    float* scores = space.scores + static_cast<std::int64_t>(frame) * p.anchors;
    std::int32_t* candidates = space.candidates + static_cast<std::int64_t>(frame) * p.anchors;
    int const count = compacted(p, shared, scores, candidates);
    int kept = 0;
    while (kept < p.most) {
        int const best = best_left(shared, scores, count);
        if (best < 0) break;
        int const anchor = candidates[best];
        for (int c = thread; c < p.columns(); c += kSelectThreads) {
            shared.line[c] = heads.column(p, anchor, c);
        }
        if (thread == 0) {
            space.kept[frame * p.most + kept] = anchor;
            space.drafts.scores[frame * p.most + kept] = scores[best];
        }
        __syncthreads();
        // Each candidate's score belongs to one thread, here and in the search for the best.
        if (best % kSelectThreads == thread) scores[best] = -1.0f;
        if (++kept < p.most) drop_near(p, heads, shared, scores, candidates, count);
    }
    if (thread == 0) space.drafts.count[frame] = kept;
}

// A warp per kept line.
template <typename T>
__global__ void __launch_bounds__(32)
    line_anchor_points_kernel(LineAnchorParams p, Heads const __grid_constant__ all,
                              LineAnchorWorkspace space) {
    int const lane = threadIdx.x, index = blockIdx.x, frame = blockIdx.y;
    if (index >= space.drafts.count[frame]) return;
    auto const heads = LineAnchorHeads<T>::of(p, all, frame);
    int const anchor = space.kept[frame * p.most + index];
    int const start = line_anchor_start(p, heads.start_y(p, anchor));
    int const cut = line_anchor_cut(p, start, heads.length(p, anchor));
    int bottom = 0;  // above the highest offset that is below the start and outside the frame
    for (int i = lane; i < start; i += 32) {
        if (!line_anchor_inside(line_anchor_place(p, heads.x(p, anchor, i)))) bottom = i + 1;
    }
    for (int step = 16; step > 0; step /= 2) {
        bottom = max(bottom, __shfl_xor_sync(~0u, bottom, step));
    }
    float* points = space.drafts.lane(frame, index);
    for (int i = lane; i < p.offsets; i += 32) {
        float const place = line_anchor_place(p, heads.x(p, anchor, i));
        bool const present = i >= bottom && i < cut && place >= 0.0f;
        line_anchor_point(p, i, place, present, points + 2 * i);
    }
}

}  // namespace

cudaError_t LineAnchor::launch(Params const& p, Heads const& heads, int batch, Lanes const& lanes,
                               void* workspace, cudaStream_t stream) {
    auto const space = LineAnchorWorkspace::at(p, workspace, batch);
    dim3 const blocks((p.anchors + kScoreWarps - 1) / kScoreWarps, batch);
    dim3 const score_threads(32, kScoreWarps), frames(batch), kept(p.most, batch);
    auto const drafted = by_type(heads, [&](auto number) {
        using T = decltype(number);
        return Kernels(stream)
            .then(line_anchor_score_kernel<T>, blocks, score_threads, p, heads, space.scores)
            .then(line_anchor_select_kernel<T>, frames, dim3(kSelectThreads), p, heads, space)
            .then(line_anchor_points_kernel<T>, kept, dim3(32), p, heads, space);
    });
    return assemble(space.drafts, batch, p.slots, kLeastPoints, lanes, drafted);
}

}  // namespace trt_lane
