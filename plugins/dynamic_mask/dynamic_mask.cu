// Dynamic masks on the GPU: start points, the columns of every lane's rows, and the lanes in order.
#include "dynamic_mask/dynamic_mask.h"

#include "common/kernels.h"

namespace trt_lane {
namespace {

constexpr int kMaxSlots = DynamicMaskParams::kMaxSlots;
constexpr unsigned kAll = 0xffffffffu;

// Arrays of all frames of a batch, one after the other; `drawn` is slots times steps.
struct Workspace {
    DynamicMaskPeak* peaks;  // (N, h, w) those of the heat map, column by column
    float* x;                // (N, drawn, H) of a lane's rows, NaN where there is no point
    float* scores;           // (N, drawn)
    std::int32_t* drawings;  // (N, drawn) which mask is the lane's
    std::int32_t* found;     // (N, drawn) points of it
    std::int32_t* lanes;     // (N,) how many lanes
};

constexpr int kStartThreads = 256;
constexpr int kStartWarps = kStartThreads / 32;

struct StartShared {
    int of_warp[kStartWarps];
    DynamicMaskPeak kept[kMaxSlots];
    std::int32_t by_row[kMaxSlots], label[kMaxSlots], last[kMaxSlots], lanes[kMaxSlots];
};

// Peaks into shared.kept, column by column; of too many the highest ones. Gives their number.
template <typename T>
__device__ __forceinline__ int keep_peaks(DynamicMaskParams const& p, T const* logits, int thread,
                                          DynamicMaskPeak* peaks, StartShared& shared) {
    int const cells = p.heat_h * p.heat_w;
    int found = 0;
    for (int begin = 0; begin < cells; begin += kStartThreads) {
        int const i = begin + thread, x = i / p.heat_h, y = i % p.heat_h;
        float const heat =
            i < cells ? dynamic_mask_heat(p, to_float(logits[y * p.heat_w + x])) : 0.0f;
        bool const here = i < cells && dynamic_mask_is_peak(p, logits, x, y, heat);
        int total;
        int const at = found + rank_in_block<kStartThreads>(here, thread, shared.of_warp, total);
        if (here) peaks[at] = {x, y, heat};
        found += total;
    }
    __syncthreads();
    int kept = 0;
    for (int begin = 0; begin < found; begin += kStartThreads) {
        int const i = begin + thread;
        int higher = 0;
        for (int j = 0; found > p.starts && i < found && j < found; ++j) {
            higher += peaks[j].heat > peaks[i].heat || (peaks[j].heat == peaks[i].heat && j < i);
        }
        bool const here = i < found && higher < p.starts;
        int total;
        int const at = kept + rank_in_block<kStartThreads>(here, thread, shared.of_warp, total);
        if (here) shared.kept[at] = peaks[i];
        kept += total;
    }
    __syncthreads();
    return kept;
}

// One block per frame: which lanes there are, in the order of the outputs.
template <typename T>
__global__ void __launch_bounds__(kStartThreads)
    dynamic_mask_start_kernel(DynamicMaskParams p, T const* __restrict__ logits,
                              T const* __restrict__ heats, T const* __restrict__ states,
                              Workspace work) {
    LANE_SHARED(StartShared, shared);
    int const thread = threadIdx.x, cells = p.heat_h * p.heat_w;
    std::int64_t const frame = blockIdx.x;
    int const kept =
        keep_peaks(p, logits + frame * cells, thread, work.peaks + frame * cells, shared);
    if (thread < kept) {
        int before = 0;
        for (int j = 0; j < kept; ++j) {
            int const below = shared.kept[j].y - shared.kept[thread].y;
            before += below < 0 || (below == 0 && j < thread);
        }
        shared.by_row[before] = thread;
    }
    __syncthreads();
    if (thread >= 32) return;

    // One warp joins neighbours: a start point goes to the first group with a member in reach.
    int groups = 0;
    for (int i = 0; i < kept; ++i) {
        int label = groups;
        for (int j = thread; j < i; j += 32) {
            if (dynamic_mask_near(p, shared.kept[shared.by_row[i]],
                                  shared.kept[shared.by_row[j]])) {
                label = min(label, shared.label[j]);
            }
        }
        for (int step = 16; step > 0; step >>= 1) {
            label = min(label, __shfl_xor_sync(kAll, label, step));
        }
        if (thread == 0) {
            shared.label[i] = label;
            shared.last[label] = shared.by_row[i];
        }
        groups += label == groups;
        __syncwarp();
    }
    for (int g = thread; g < groups; g += 32) {
        std::int64_t const start = frame * p.starts + shared.last[g];
        bool const sure = dynamic_mask_is_sure(p, to_float(heats[start]));
        shared.lanes[g] = sure ? dynamic_mask_lanes(p, states, start) : 0;
    }
    __syncwarp();
    int const drawn = p.starts * p.steps;
    int first = 0;
    for (int begin = 0; begin < groups; begin += 32) {
        int const g = begin + thread;
        int const lanes = g < groups ? shared.lanes[g] : 0;
        int end = lanes;  // of the group's lanes, by a prefix sum
        for (int step = 1; step < 32; step <<= 1) {
            int const before = __shfl_up_sync(kAll, end, step);
            if (thread >= step) end += before;
        }
        for (int i = 0; i < lanes; ++i) {
            std::int64_t const at = frame * drawn + first + end - lanes + i;
            work.drawings[at] = shared.last[g] * p.steps + i;
            work.scores[at] =
                dynamic_mask_score(p, to_float(heats[frame * p.starts + shared.last[g]]));
        }
        first += __shfl_sync(kAll, end, 31);
    }
    if (thread == 0) work.lanes[frame] = first;
}

constexpr int kRowThreads = 128;
constexpr int kRowWarps = kRowThreads / 32;

struct RowShared {
    float weights[kRowWarps][DynamicMaskParams::kMaxWidth];
    int found[kRowWarps];
};

// The expected column of a row, or -1 where a logit is not finite; one warp.
template <typename T>
__device__ __forceinline__ int expected_column(DynamicMaskParams const& p, T const* logits,
                                               int lane, float* weights) {
    float largest = -INFINITY;
    bool sound = true;
    for (int i = lane; i < p.mask_w; i += 32) {
        float const logit = to_float(logits[i]);
        sound = sound && finite(logit);
        largest = logit > largest ? logit : largest;
    }
    for (int step = 16; step > 0; step >>= 1) {
        float const other = __shfl_xor_sync(kAll, largest, step);
        largest = other > largest ? other : largest;
    }
    if (!__all_sync(kAll, sound)) return -1;
    for (int i = lane; i < p.mask_w; i += 32) weights[i] = exp32(to_float(logits[i]) - largest);
    __syncwarp();
    float const sum = dynamic_mask_pairwise<kDynamicMaskHalvings>(
        weights, p.mask_w, [lane](float const* w, int n) {
            // Every eight lanes add the same eight sums and combine them as numpy does.
            int const whole = n - n % 8;
            float part = 0.0f;
            for (int i = lane % 8; i < whole; i += 8) part += w[i];
            for (int step = 1; step < 8; step <<= 1) part += __shfl_xor_sync(kAll, part, step);
            for (int i = whole; i < n; ++i) part += w[i];
            return part;
        });
    double expected = 0.0;
    for (int i = lane; i < p.mask_w; i += 32) {
        expected += static_cast<double>(weights[i] / sum) * i;
    }
    for (int step = 16; step > 0; step >>= 1) expected += __shfl_xor_sync(kAll, expected, step);
    __syncwarp();  // the weights may be written anew
    return dynamic_mask_column(p, expected);
}

// One block per lane, one warp per row of its mask.
template <typename T>
__global__ void __launch_bounds__(kRowThreads)
    dynamic_mask_row_kernel(DynamicMaskParams p, T const* __restrict__ masks,
                            T const* __restrict__ offsets, T const* __restrict__ ranges,
                            Workspace work) {
    LANE_SHARED(RowShared, shared);
    int const lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    std::int64_t const frame = blockIdx.y, drawn = static_cast<std::int64_t>(p.starts) * p.steps;
    std::int64_t const entry = frame * drawn + blockIdx.x;
    if (static_cast<int>(blockIdx.x) >= work.lanes[frame]) return;
    std::int64_t const drawing = frame * drawn + work.drawings[entry];
    T const* absent = ranges + drawing * 2 * p.mask_h;
    // Every warp for itself: the rows that hold the lane.
    int first = p.mask_h, last = -1;
    for (int begin = 0; begin < p.mask_h; begin += 32) {
        int const row = begin + lane;
        bool const here =
            row < p.mask_h && to_float(absent[p.mask_h + row]) > to_float(absent[row]);
        int const rows = static_cast<int>(__ballot_sync(kAll, here));
        if (rows == 0) continue;
        first = min(first, begin + __ffs(rows) - 1);
        last = begin + 31 - __clz(rows);
    }
    // The official range takes in one more row on either side, and every row between.
    first = max(first - 1, 0);
    last = last < 0 ? -1 : min(last + 1, p.mask_h - 1);
    int found = 0;
    for (int row = warp; row < p.mask_h; row += kRowWarps) {
        float place = nan_float();
        if (row >= first && row <= last) {
            std::int64_t const at = (drawing * p.mask_h + row) * p.mask_w;
            int const column = expected_column(p, masks + at, lane, shared.weights[warp]);
            double const x = column < 0 ? static_cast<double>(place)
                                        : dynamic_mask_x(p, column, to_float(offsets[at + column]));
            if (finite(x)) place = static_cast<float>(x);
            found += finite(x);
        }
        if (lane == 0) work.x[entry * p.mask_h + row] = place;
    }
    if (lane == 0) shared.found[warp] = found;
    __syncthreads();
    if (threadIdx.x != 0) return;
    for (int w = 1; w < kRowWarps; ++w) found += shared.found[w];
    work.found[entry] = found;
}

// One warp per slot: the lane of so many before it, its points without gaps.
__global__ void __launch_bounds__(32)
    dynamic_mask_lane_kernel(DynamicMaskParams p, Workspace work, Lanes out) {
    int const thread = threadIdx.x, slot = blockIdx.x;
    std::int64_t const frame = blockIdx.y, drawn = static_cast<std::int64_t>(p.starts) * p.steps;
    unsigned const before = (1u << thread) - 1u;
    int const drawings = work.lanes[frame];
    int mine = -1, lanes = 0;
    for (int begin = 0; begin < drawings; begin += 32) {
        int const i = begin + thread;
        bool const here = i < drawings && work.found[frame * drawn + i] >= DynamicMask::kMinPoints;
        unsigned const mask = __ballot_sync(kAll, here);
        int const rank = lanes + __popc(mask & before);
        unsigned const chosen = __ballot_sync(kAll, here && rank == slot);
        if (chosen) mine = begin + __ffs(static_cast<int>(chosen)) - 1;
        lanes += __popc(mask);
    }
    std::int64_t const at = frame * p.lanes + slot;
    float* points = out.points + at * p.mask_h * 2;
    int written = 0;
    for (int begin = 0; mine >= 0 && begin < p.mask_h; begin += 32) {
        int const row = p.mask_h - 1 - begin - thread;
        float const x = row < 0 ? nan_float() : work.x[(frame * drawn + mine) * p.mask_h + row];
        unsigned const mask = __ballot_sync(kAll, x == x);
        if (x == x) {
            int const i = written + __popc(mask & before);
            points[2 * i] = x;
            points[2 * i + 1] = static_cast<float>(dynamic_mask_y(p, row));
        }
        written += __popc(mask);
    }
    for (int i = 2 * written + thread; i < 2 * p.mask_h; i += 32) points[i] = nan_float();
    if (thread != 0) return;
    out.scores[at] = mine < 0 ? 0.0f : work.scores[frame * drawn + mine];
    if (slot != 0) return;
    out.count[2 * frame] = min(lanes, p.lanes);
    out.count[2 * frame + 1] = lanes > p.lanes ? kLanesDropped : 0;
}

Workspace arrays(DynamicMaskParams const& p, int batch, void* memory) {
    std::size_t const drawn = static_cast<std::size_t>(batch) * p.starts * p.steps;
    Workspace work{};
    work.peaks = static_cast<DynamicMaskPeak*>(memory);
    work.x = reinterpret_cast<float*>(work.peaks +
                                      static_cast<std::size_t>(batch) * p.heat_h * p.heat_w);
    work.scores = work.x + drawn * p.mask_h;
    work.drawings = reinterpret_cast<std::int32_t*>(work.scores + drawn);
    work.found = work.drawings + drawn;
    work.lanes = work.found + drawn;
    return work;
}

}  // namespace

cudaError_t DynamicMask::launch(Params const& p, Heads const& heads, int batch, Lanes const& lanes,
                                void* workspace, cudaStream_t stream) {
    Workspace const work = arrays(p, batch, workspace);
    dim3 const drawings(p.starts * p.steps, batch);
    return by_type(heads, [&](auto number) {
        using T = decltype(number);
        return Kernels(stream)
            .then(dynamic_mask_start_kernel<T>, dim3(batch), dim3(kStartThreads), p, heads.as<T>(0),
                  heads.as<T>(1), heads.as<T>(5), work)
            .then(dynamic_mask_row_kernel<T>, drawings, dim3(kRowThreads), p, heads.as<T>(2),
                  heads.as<T>(3), heads.as<T>(4), work)
            .then(dynamic_mask_lane_kernel, dim3(p.lanes, batch), dim3(32), p, work, lanes)
            .status();
    });
}

}  // namespace trt_lane
