// Row anchors on the GPU: one kernel finds every anchor's place, a second one puts lanes together.
#include "row_anchor/row_anchor.h"

#include "common/kernels.h"

namespace trt_lane {
namespace {

// A block has 32 anchors side by side, so that a warp reads 128 bytes in a row, and shares their
// cells among its warps.
constexpr int kAnchors = 32;
constexpr int kWarps = 8;
constexpr int kChunk = 8 * kWarps;  // cells whose weights lie in shared memory at a time

struct LocateShared {
    float largest[kWarps][kAnchors];
    bool sound[kWarps][kAnchors];
    float weight[kChunk][kAnchors];
    float sum[kAnchors];
    double expected[kWarps][kAnchors];
};

template <typename T>
__global__ void __launch_bounds__(kAnchors* kWarps)
    row_anchor_locate_kernel(RowAnchorParams p, T const* __restrict__ heads,
                             RowAnchorPlace* __restrict__ places) {
    LANE_SHARED(LocateShared, shared);
    int const column = threadIdx.x, warp = threadIdx.y;
    int const anchors = p.rows * p.lanes;
    int const anchor = blockIdx.x * kAnchors + column;
    bool const here = anchor < anchors;
    // Threads beyond the last anchor read it too: all threads reach every barrier.
    T const* logits = heads + static_cast<std::int64_t>(blockIdx.y) * (p.cells + 1) * anchors +
                      (here ? anchor : anchors - 1);

    float largest = to_float(logits[0]);
    bool sound = finite(largest);
    for (int g = warp; g < p.cells; g += kWarps) {
        float const logit = to_float(logits[static_cast<std::int64_t>(g) * anchors]);
        sound = sound && finite(logit);
        largest = logit > largest ? logit : largest;
    }
    shared.largest[warp][column] = largest;
    shared.sound[warp][column] = sound;
    __syncthreads();
    for (int w = 0; w < kWarps; ++w) {
        sound = sound && shared.sound[w][column];
        largest = shared.largest[w][column] > largest ? shared.largest[w][column] : largest;
    }

    // The sum goes over the cells in order: one warp adds what all have weighed.
    float sum = 0.0f;
    for (int begin = 0; begin < p.cells; begin += kChunk) {
        int const end = min(begin + kChunk, p.cells);
        for (int g = begin + warp; g < end; g += kWarps) {
            float const logit = to_float(logits[static_cast<std::int64_t>(g) * anchors]);
            shared.weight[g - begin][column] = row_anchor_weight(logit, largest);
        }
        __syncthreads();
        if (warp == 0) {
            for (int g = begin; g < end; ++g) sum += shared.weight[g - begin][column];
        }
        __syncthreads();
    }
    if (warp == 0) shared.sum[column] = sum;
    __syncthreads();
    sum = shared.sum[column];

    double expected = 0.0;
    for (int g = warp; g < p.cells; g += kWarps) {
        float const logit = to_float(logits[static_cast<std::int64_t>(g) * anchors]);
        expected += row_anchor_share(g, row_anchor_weight(logit, largest), sum);
    }
    shared.expected[warp][column] = expected;
    __syncthreads();
    if (warp != 0 || !here) return;
    for (int w = 1; w < kWarps; ++w) expected += shared.expected[w][column];
    float const none = to_float(logits[static_cast<std::int64_t>(p.cells) * anchors]);
    bool const present = sound && finite(none) && !(none > largest);
    places[static_cast<std::int64_t>(blockIdx.y) * anchors + anchor] =
        present ? row_anchor_place(p, expected, sum, row_anchor_weight(none, largest))
                : row_anchor_nowhere();
}

constexpr int kAssembleThreads = 256;

struct AssembleShared {
    int count[RowAnchorParams::kMaxLanes];
    float score[RowAnchorParams::kMaxLanes];
    int lane_of_slot[RowAnchorParams::kMaxLanes];
};

// One block per frame: lanes with enough points go to the slots in the head's order.
__global__ void __launch_bounds__(kAssembleThreads)
    row_anchor_assemble_kernel(RowAnchorParams p, RowAnchorPlace const* __restrict__ places,
                               Lanes out) {
    LANE_SHARED(AssembleShared, shared);
    int const thread = threadIdx.x, frame = blockIdx.x;
    places += static_cast<std::int64_t>(frame) * p.rows * p.lanes;
    if (thread < p.lanes) {
        int count = 0;
        float confidence = 0.0f;
        for (int row = 0; row < p.rows; ++row) {
            RowAnchorPlace const place = places[row * p.lanes + thread];
            count += finite(row_anchor_x(p, place.cell));
            confidence += place.confidence;
        }
        shared.count[thread] = count;
        shared.score[thread] = static_cast<float>(static_cast<double>(confidence) / count);
    }
    if (thread < p.slots) shared.lane_of_slot[thread] = -1;
    __syncthreads();
    if (thread == 0) {
        int kept = 0;
        for (int lane = 0; lane < p.lanes; ++lane) {
            if (shared.count[lane] < p.min_points) continue;
            if (kept < p.slots) shared.lane_of_slot[kept] = lane;
            ++kept;
        }
        out.count[2 * frame] = min(kept, p.slots);
        out.count[2 * frame + 1] = kept > p.slots ? kLanesDropped : 0;
    }
    __syncthreads();
    for (int i = thread; i < p.slots * p.rows; i += kAssembleThreads) {
        int const slot = i / p.rows, row = i % p.rows, lane = shared.lane_of_slot[slot];
        double const cell =
            lane < 0 ? row_anchor_nowhere().cell : places[p.order[row] * p.lanes + lane].cell;
        double const x = row_anchor_x(p, cell);
        float* point = out.points + (static_cast<std::int64_t>(frame) * p.slots * p.rows + i) * 2;
        point[0] = static_cast<float>(x);
        point[1] = x != x ? nan_float() : p.y_px[row];
    }
    if (thread < p.slots) {
        int const lane = shared.lane_of_slot[thread];
        out.scores[frame * p.slots + thread] = lane < 0 ? 0.0f : shared.score[lane];
    }
}

}  // namespace

cudaError_t RowAnchor::launch(Params const& p, Heads const& heads, int batch, Lanes const& lanes,
                              void* workspace, cudaStream_t stream) {
    auto* places = static_cast<RowAnchorPlace*>(workspace);
    dim3 const blocks((p.rows * p.lanes + kAnchors - 1) / kAnchors, batch);
    dim3 const threads(kAnchors, kWarps);
    return by_type(heads, [&](auto number) {
        using T = decltype(number);
        return Kernels(stream)
            .then(row_anchor_locate_kernel<T>, blocks, threads, p, heads.as<T>(0), places)
            .then(row_anchor_assemble_kernel, dim3(batch), dim3(kAssembleThreads), p, places, lanes)
            .status();
    });
}

}  // namespace trt_lane
