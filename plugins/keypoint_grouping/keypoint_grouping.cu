// Key-point grouping on the GPU: peaks, clusters of roots, the cluster of every key point, lanes.
#include "keypoint_grouping/keypoint_grouping.h"

#include "common/kernels.h"

namespace trt_lane {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / 32;
constexpr unsigned kAll = 0xffffffffu;

// Arrays of all frames of a batch, one after the other.
struct Workspace {
    KeypointCell* centres;   // (N, roots)
    std::int32_t* sizes;     // (N, roots) key points of each cluster
    float* peaks;            // (N, h, w) heat of key points, else 0
    std::int32_t* clusters;  // (N, h, w) or -1
    std::int32_t* counts;    // (N, 2) clusters, and overflow bits of the roots
};

// One thread per cell.
template <typename T>
__global__ void __launch_bounds__(kThreads)
    keypoint_grouping_peak_kernel(KeypointGroupingParams p, T const* __restrict__ logits,
                                  float* __restrict__ peaks) {
    int const cells = p.heat_h * p.heat_w, cell = blockIdx.x * kThreads + threadIdx.x;
    if (cell >= cells) return;
    std::int64_t const at = static_cast<std::int64_t>(blockIdx.y) * cells + cell;
    int const x = cell % p.heat_w;
    float const left = x > 0 ? keypoint_heat(to_float(logits[at - 1])) : 0.0f;
    float const right = x + 1 < p.heat_w ? keypoint_heat(to_float(logits[at + 1])) : 0.0f;
    peaks[at] = keypoint_peak(p, keypoint_heat(to_float(logits[at])), left, right);
}

struct ClusterShared {
    int of_warp[kWarps];
    std::int16_t x[KeypointGroupingParams::kMaxRoots], y[KeypointGroupingParams::kMaxRoots];
    std::int16_t label[KeypointGroupingParams::kMaxRoots];
};

// One block per frame: roots in the order of columns, then one warp that gives each its cluster.
template <typename T>
__global__ void __launch_bounds__(kThreads)
    keypoint_grouping_cluster_kernel(KeypointGroupingParams p, T const* __restrict__ to_root,
                                     Workspace work) {
    LANE_SHARED(ClusterShared, shared);
    int const thread = threadIdx.x, frame = blockIdx.x, cells = p.heat_h * p.heat_w;
    float const* peaks = work.peaks + static_cast<std::int64_t>(frame) * cells;
    T const* to_root_y = to_root + (static_cast<std::int64_t>(frame) * 2 + 1) * cells;
    int found = 0;
    for (int begin = 0; begin < cells; begin += kThreads) {
        int const i = begin + thread, x = i / p.heat_h, y = i % p.heat_h;
        bool const here = i < cells && peaks[y * p.heat_w + x] > 0.0f &&
                          to_float(to_root_y[y * p.heat_w + x]) < p.root_rows;
        int total;
        int const at = found + rank_in_block<kThreads>(here, thread, shared.of_warp, total);
        if (here && at < p.roots) {
            shared.x[at] = static_cast<std::int16_t>(x);
            shared.y[at] = static_cast<std::int16_t>(y);
        }
        found += total;
    }
    __syncthreads();
    if (thread >= 32) return;
    int const roots = min(found, p.roots);
    int clusters = 0;
    for (int i = 0; i < roots; ++i) {
        KeypointCell const root{shared.x[i], shared.y[i]};
        int label = clusters;
        // Roots farther to the left than the reach are out of it.
        for (int j = i - 1 - thread; j >= 0 && root.x - shared.x[j] <= p.root_distance; j -= 32) {
            if (keypoint_near(p, root, {shared.x[j], shared.y[j]})) {
                label = min(label, static_cast<int>(shared.label[j]));
            }
        }
        for (int step = 16; step > 0; step >>= 1) {
            label = min(label, __shfl_xor_sync(kAll, label, step));
        }
        if (thread == 0) shared.label[i] = static_cast<std::int16_t>(label);
        clusters += label == clusters;
        __syncwarp();
    }
    KeypointCell* centres = work.centres + static_cast<std::int64_t>(frame) * p.roots;
    std::int32_t* sizes = work.sizes + static_cast<std::int64_t>(frame) * p.roots;
    for (int c = thread; c < clusters; c += 32) {
        centres[c] = {0, 0};
        sizes[c] = 0;
    }
    __syncwarp();
    for (int i = thread; i < roots; i += 32) {
        atomicAdd(&centres[shared.label[i]].x, shared.x[i]);
        atomicAdd(&centres[shared.label[i]].y, shared.y[i]);
        atomicAdd(&sizes[shared.label[i]], 1);
    }
    __syncwarp();
    for (int c = thread; c < clusters; c += 32) {
        centres[c] = {centres[c].x / sizes[c], centres[c].y / sizes[c]};
        sizes[c] = 0;  // of key points from here on
    }
    if (thread == 0) {
        work.counts[2 * frame] = clusters;
        work.counts[2 * frame + 1] = found > p.roots ? kCandidatesDropped : 0;
    }
}

// One thread per cell: the first cluster that its offset reaches.
template <typename T>
__global__ void __launch_bounds__(kThreads)
    keypoint_grouping_assign_kernel(KeypointGroupingParams p, T const* __restrict__ to_root,
                                    T const* __restrict__ within, Workspace work) {
    int const cells = p.heat_h * p.heat_w, i = blockIdx.x * kThreads + threadIdx.x;
    if (i >= cells) return;
    std::int64_t const frame = blockIdx.y, at = frame * cells + i;
    T const* offset = to_root + frame * 2 * cells + i;
    T const* inside = within + frame * 2 * cells + i;
    KeypointCell const cell{i % p.heat_w, i / p.heat_w};
    int cluster = -1;
    if (work.peaks[at] > 0.0f &&
        keypoint_is_sound(cell, to_float(inside[0]), to_float(inside[cells]))) {
        int const clusters = work.counts[2 * frame];
        float const x = to_float(offset[0]), y = to_float(offset[cells]);
        for (int c = 0; c < clusters && cluster < 0; ++c) {
            if (keypoint_reaches(p, cell, x, y, work.centres[frame * p.roots + c])) cluster = c;
        }
    }
    work.clusters[at] = cluster;
    if (cluster >= 0) atomicAdd(&work.sizes[frame * p.roots + cluster], 1);
}

struct LaneShared {
    int of_warp[kWarps];
    double sum[kWarps];
};

// One block per slot: its cluster's key points from the bottom row upwards.
template <typename T>
__global__ void __launch_bounds__(kThreads)
    keypoint_grouping_lane_kernel(KeypointGroupingParams p, T const* __restrict__ within,
                                  Workspace work, Lanes out) {
    LANE_SHARED(LaneShared, shared);
    int const thread = threadIdx.x, slot = blockIdx.x, cells = p.heat_h * p.heat_w;
    std::int64_t const frame = blockIdx.y;
    int const clusters = work.counts[2 * frame];
    std::int32_t const* sizes = work.sizes + frame * p.roots;
    // Every warp for itself: the slot's cluster is the one with `slot` large enough ones before it.
    int mine = -1, lanes = 0;
    bool dropped = false;
    for (int begin = 0; begin < clusters; begin += 32) {
        int const c = begin + thread % 32;
        int const size = c < clusters ? sizes[c] : 0;
        unsigned const mask = __ballot_sync(kAll, size >= p.min_points);
        int const rank = lanes + __popc(mask & ((1u << thread % 32) - 1u));
        dropped |= size >= p.min_points && rank < p.slots && size > p.points;
        unsigned const chosen = __ballot_sync(kAll, size >= p.min_points && rank == slot);
        if (chosen) mine = begin + __ffs(static_cast<int>(chosen)) - 1;
        lanes += __popc(mask);
    }
    dropped = __any_sync(kAll, dropped);

    std::int64_t const lane = frame * p.slots + slot;
    float* points = out.points + lane * p.points * 2;
    T const* inside = within + frame * 2 * cells;
    double sum = 0.0;
    int found = 0;
    for (int begin = 0; mine >= 0 && begin < cells; begin += kThreads) {
        int const i = cells - 1 - begin - thread;
        bool const here = i >= 0 && work.clusters[frame * cells + i] == mine;
        int total;
        int const at = found + rank_in_block<kThreads>(here, thread, shared.of_warp, total);
        if (here) sum += work.peaks[frame * cells + i];
        if (here && at < p.points) {
            keypoint_to_frame(p, {i % p.heat_w, i / p.heat_w}, to_float(inside[i]),
                              to_float(inside[cells + i]), points + 2 * at);
        }
        found += total;
    }
    for (int i = 2 * min(found, p.points) + thread; i < 2 * p.points; i += kThreads) {
        points[i] = nan_float();
    }
    for (int step = 16; step > 0; step >>= 1) sum += __shfl_xor_sync(kAll, sum, step);
    if (thread % 32 == 0) shared.sum[thread / 32] = sum;
    __syncthreads();
    if (thread != 0) return;
    for (int w = 1; w < kWarps; ++w) sum += shared.sum[w];
    out.scores[lane] = mine < 0 ? 0.0f : static_cast<float>(sum / found);
    if (slot == 0) {
        out.count[2 * frame] = min(lanes, p.slots);
        out.count[2 * frame + 1] = work.counts[2 * frame + 1] |
                                   (lanes > p.slots ? kLanesDropped : 0) |
                                   (dropped ? kPointsDropped : 0);
    }
}

Workspace arrays(KeypointGroupingParams const& p, int batch, void* memory) {
    std::size_t const roots = static_cast<std::size_t>(batch) * p.roots;
    std::size_t const cells = static_cast<std::size_t>(batch) * p.heat_h * p.heat_w;
    Workspace work{};
    work.centres = static_cast<KeypointCell*>(memory);
    work.sizes = reinterpret_cast<std::int32_t*>(work.centres + roots);
    work.peaks = reinterpret_cast<float*>(work.sizes + roots);
    work.clusters = reinterpret_cast<std::int32_t*>(work.peaks + cells);
    work.counts = work.clusters + cells;
    return work;
}

}  // namespace

cudaError_t KeypointGrouping::launch(Params const& p, Heads const& heads, int batch,
                                     Lanes const& lanes, void* workspace, cudaStream_t stream) {
    Workspace const work = arrays(p, batch, workspace);
    dim3 const threads(kThreads), frames(batch), slots(p.slots, batch);
    dim3 const cells((p.heat_h * p.heat_w + kThreads - 1) / kThreads, batch);
    return by_type(heads, [&](auto number) {
        using T = decltype(number);
        T const *to_root = heads.as<T>(1), *within = heads.as<T>(2);
        return Kernels(stream)
            .then(keypoint_grouping_peak_kernel<T>, cells, threads, p, heads.as<T>(0), work.peaks)
            .then(keypoint_grouping_cluster_kernel<T>, frames, threads, p, to_root, work)
            .then(keypoint_grouping_assign_kernel<T>, cells, threads, p, to_root, within, work)
            .then(keypoint_grouping_lane_kernel<T>, slots, threads, p, within, work, lanes)
            .status();
    });
}

}  // namespace trt_lane
