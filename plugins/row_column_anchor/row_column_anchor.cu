// Row and column anchors on the GPU: one kernel finds every anchor's place, a second one, a warp
// per lane, makes its points and its parabola.
#include "row_column_anchor/row_column_anchor.h"

#include "common/drafts_kernel.h"

namespace trt_lane {
namespace {

// A block has 32 anchors side by side, so that a warp reads 128 bytes in a row, and shares their
// cells among its warps.
constexpr int kAnchors = 32;
constexpr int kWarps = 8;

struct LocateShared {
    float largest[kWarps][kAnchors];
    int peak[kWarps][kAnchors];  // below zero where a logit is NaN or infinite
};

template <typename T>
__global__ void __launch_bounds__(kAnchors* kWarps)
    row_column_locate_kernel(RowColumnAnchorParams const __grid_constant__ p,
                             Heads const __grid_constant__ heads,
                             RowColumnPlace* __restrict__ places) {
    LANE_SHARED(LocateShared, shared);
    int const column = threadIdx.x, warp = threadIdx.y;
    // Blocks of row anchors come first.
    int const row_blocks = (p.row_places() + kAnchors - 1) / kAnchors;
    bool const on_row = static_cast<int>(blockIdx.x) < row_blocks;
    int const anchors = on_row ? p.row_places() : p.columns * p.lanes;
    int const cells = on_row ? p.row_cells : p.column_cells;
    int const anchor = (blockIdx.x - (on_row ? 0 : row_blocks)) * kAnchors + column;
    bool const here = anchor < anchors;
    // Threads beyond the last anchor read it too: all threads reach the barrier.
    int const at = here ? anchor : anchors - 1;
    std::int64_t const frame = blockIdx.y;
    T const* logits = heads.as<T>(on_row ? 0 : 1) + frame * cells * anchors + at;

    float largest = -INFINITY;
    int peak = 0;
    bool sound = true;
    for (int g = warp; g < cells; g += kWarps) {
        float const logit = to_float(logits[static_cast<std::int64_t>(g) * anchors]);
        sound = sound && finite(logit);
        if (logit > largest) largest = logit, peak = g;
    }
    shared.largest[warp][column] = largest;
    shared.peak[warp][column] = sound ? peak : -1;
    __syncthreads();
    if (warp != 0 || !here) return;
    for (int w = 1; w < kWarps; ++w) {
        float const other = shared.largest[w][column];
        int const cell = shared.peak[w][column];
        sound = sound && cell >= 0;
        if (other > largest || (other == largest && cell < peak)) largest = other, peak = cell;
    }
    T const* exist = heads.as<T>(on_row ? 2 : 3) + frame * 2 * anchors + anchor;
    float const no = to_float(exist[0]), yes = to_float(exist[anchors]);
    RowColumnPlace place{nan_float(), 0.0f};
    if (sound && row_column_exists(no, yes)) {
        place.px =
            row_column_px(logits, anchors, cells, p.window, peak, on_row ? p.frame_w : p.frame_h);
        place.chance = row_column_chance(no, yes);
    }
    places[frame * p.places() + (on_row ? 0 : p.row_places()) + anchor] = place;
}

// Sums over points by a warp; the order is always the same.
struct WarpSum {
    int lane;

    LANE_HD int first() const { return lane; }
    LANE_HD int step() const { return 32; }
    LANE_HD double sum(double value) const {
#if defined(__CUDA_ARCH__) || defined(LANE_CPU_EXECUTION)
        for (int step = 16; step > 0; step /= 2) value += __shfl_xor_sync(~0u, value, step);
#endif
        return value;
    }
    LANE_HD double largest(double value) const {
#if defined(__CUDA_ARCH__) || defined(LANE_CPU_EXECUTION)
        for (int step = 16; step > 0; step /= 2) {
            double const other = __shfl_xor_sync(~0u, value, step);
            value = other > value ? other : value;
        }
#endif
        return value;
    }
};

// What the kernels hand to each other.
struct Workspace {
    RowColumnCurve* curves;  // (N, entries), where there is a refit
    RowColumnPlace* places;  // (N, rows + columns, lanes)
    RowColumnFound* found;   // (N, entries)
    Drafts drafts;

    static Workspace at(RowColumnAnchorParams const& p, void* memory, int batch) {
        std::size_t const entries = static_cast<std::size_t>(batch) * p.entries;
        auto* curves = static_cast<RowColumnCurve*>(memory);  // doubles first, for the alignment
        auto* places = reinterpret_cast<RowColumnPlace*>(curves + entries);
        auto* found = reinterpret_cast<RowColumnFound*>(places + static_cast<std::size_t>(batch) *
                                                                     p.places());
        return {curves, places, found, Drafts::at(found + entries, p.entries, p.width, batch)};
    }
};

// A warp per entry.
__global__ void __launch_bounds__(32)
    row_column_curve_kernel(RowColumnAnchorParams const __grid_constant__ p, Workspace space) {
    int const index = blockIdx.x, frame = blockIdx.y, at = frame * p.entries + index;
    RowColumnPlace const* places = space.places + static_cast<std::int64_t>(frame) * p.places();
    WarpSum const over{static_cast<int>(threadIdx.x)};
    auto const found = row_column_found(p, p.entry[index], places, over);
    if (threadIdx.x == 0) {
        space.found[at] = found;
        space.drafts.scores[at] = found.score;
        space.drafts.count[frame] = p.entries;
    }
    if (p.refit == Refit::kNone) return;
    auto const curve = row_column_curve(p, p.entry[index].lane, found, places, over);
    if (threadIdx.x == 0) space.curves[at] = curve;
}

__global__ void __launch_bounds__(32)
    row_column_points_kernel(RowColumnAnchorParams const __grid_constant__ p, Workspace space) {
    int const index = blockIdx.x, frame = blockIdx.y, at = frame * p.entries + index;
    RowColumnPlace const* places = space.places + static_cast<std::int64_t>(frame) * p.places();
    row_column_draft(p, p.entry[index], space.found[at], space.curves[at], places,
                     WarpSum{static_cast<int>(threadIdx.x)}, space.drafts.lane(frame, index));
}

}  // namespace

cudaError_t RowColumnAnchor::launch(Params const& p, Heads const& heads, int batch,
                                    Lanes const& lanes, void* workspace, cudaStream_t stream) {
    auto const space = Workspace::at(p, workspace, batch);
    auto const blocks_of = [](int anchors) { return (anchors + kAnchors - 1) / kAnchors; };
    dim3 const blocks(blocks_of(p.row_places()) + blocks_of(p.columns * p.lanes), batch);
    dim3 const threads(kAnchors, kWarps), entries(p.entries, batch);
    auto located = by_type(heads, [&](auto number) {
        return Kernels(stream).then(row_column_locate_kernel<decltype(number)>, blocks, threads, p,
                                    heads, space.places);
    });
    located.then(row_column_curve_kernel, entries, dim3(32), p, space)
        .then(row_column_points_kernel, entries, dim3(32), p, space);
    return assemble(space.drafts, batch, p.slots, kLeastPoints, lanes, located);
}

}  // namespace trt_lane
