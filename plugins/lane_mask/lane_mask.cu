// Lane masks on the GPU: runs of every row, their links and components, the lines that stay, lanes.
//
// Whichever thread comes first, a component's first run, sums, least and greatest numbers are the
// same, and links follow one order of all pairs: no result depends on the order of threads.
#include "lane_mask/lane_mask.h"

#include "common/kernels.h"

namespace trt_lane {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / 32;
constexpr int kMost = 0x7fffffff;
constexpr unsigned kAll = 0xffffffffu;

// Arrays of all frames of a batch, one after the other. Run k of row y is at k * h + y: a line
// stays near one k, so that following it upwards reads memory side by side.
struct Workspace {
    std::int32_t* parent;  // (N, w / 2, h) towards the component's run of the least number
    std::int32_t* area;    // (N, w / 2, h) and so on: of the component whose first run it is
    std::int32_t* top;
    std::int32_t* bottom;
    std::int32_t* square;
    std::int32_t* length;       // of the line that starts here, 0 when none does
    std::int32_t* line_square;  // of its component
    LaneMaskRun* runs;
    std::int16_t* above;  // which run of the row above goes on with this one, or -1
    std::int16_t* below;
    std::int16_t* best_above;  // of those that are still free
    std::int16_t* best_below;
    std::int32_t* counts;  // (N, h) runs of each row
    std::int32_t* starts;  // (N, slots) number of the run where a lane starts, or -1
};

struct Place {
    std::int64_t frame;
    int row;   // of this warp; from the height on it has nothing to do
    int lane;  // in the warp
};

__device__ __forceinline__ Place place() {
    return {blockIdx.y, static_cast<int>(blockIdx.x * kWarps + threadIdx.x / 32),
            static_cast<int>(threadIdx.x % 32)};
}

// The arrays of one frame.
__device__ __forceinline__ Workspace of_frame(LaneMaskParams const& p, Workspace work,
                                              std::int64_t frame) {
    std::int64_t const first = frame * p.height * lane_mask_runs(p);
    work.parent += first, work.area += first, work.top += first, work.bottom += first;
    work.square += first, work.length += first, work.line_square += first, work.runs += first;
    work.above += first, work.below += first, work.best_above += first, work.best_below += first;
    work.counts += frame * p.height, work.starts += frame * p.slots;
    return work;
}

// One warp per row: the runs of lane pixels, from left to right.
template <typename T>
__global__ void __launch_bounds__(kThreads)
    lane_mask_run_kernel(LaneMaskParams p, T const* __restrict__ logits, Workspace all) {
    Place const at = place();
    if (at.row >= p.height) return;
    Workspace const work = of_frame(p, all, at.frame);
    std::int64_t const area = static_cast<std::int64_t>(p.height) * p.width;
    T const* background =
        logits + at.frame * 2 * area + static_cast<std::int64_t>(at.row) * p.width;
    T const* foreground = background + area;
    unsigned const before = (1u << at.lane) - 1u;
    unsigned carry = 0;
    int begun = 0, ended = 0;
    for (int begin = 0; begin < p.width; begin += 32) {
        int const x = begin + at.lane;
        bool const is_lane =
            x < p.width && lane_mask_is_lane(p, lane_mask_margin(to_float(background[x]),
                                                                 to_float(foreground[x])));
        unsigned const mask = __ballot_sync(kAll, is_lane);
        unsigned const left = mask << 1 | carry;
        unsigned const begins = mask & ~left, ends = left & ~mask;
        if (begins >> at.lane & 1u) {
            int const run = (begun + __popc(begins & before)) * p.height + at.row;
            work.runs[run].first = static_cast<std::int16_t>(x);
            work.parent[run] = run;
            work.area[run] = 0;
            work.top[run] = kMost;
            work.bottom[run] = -1;
            work.square[run] = kMost;
            work.above[run] = work.below[run] = -1;
        }
        if (ends >> at.lane & 1u) {
            int const run = (ended + __popc(ends & before)) * p.height + at.row;
            work.runs[run].last = static_cast<std::int16_t>(x - 1);
        }
        begun += __popc(begins);
        ended += __popc(ends);
        carry = mask >> 31;
    }
    if (at.lane != 0) return;
    if (ended < begun) {  // the last run ends with the row
        work.runs[ended * p.height + at.row].last = static_cast<std::int16_t>(p.width - 1);
    }
    work.counts[at.row] = begun;
}

__device__ __forceinline__ int find(std::int32_t const* parent, int run) {
    // Others may be joining; what is read is a run of the same component in any case.
    std::int32_t const volatile* towards = parent;
    for (int next = towards[run]; next != run; next = towards[run]) run = next;
    return run;
}

// Two components become one, whose first run is the one of the lesser number.
__device__ __forceinline__ void join(std::int32_t* parent, int a, int b) {
    for (;;) {
        a = find(parent, a);
        b = find(parent, b);
        if (a == b) return;
        int const high = max(a, b), low = min(a, b);
        int const found = atomicMin(&parent[high], low);
        if (found == high) return;
        a = found, b = low;  // someone else joined it to another run before
    }
}

// Of the free runs of another row the one that shares most columns with a run, of equals the
// first, or -1. `visit` sees every run that touches it.
template <typename Visit>
__device__ __forceinline__ int best_of(LaneMaskParams const& p, Workspace const& work,
                                       LaneMaskRun run, int row, std::int16_t const* taken,
                                       Visit const& visit) {
    int first = 0, end = work.counts[row];
    while (first < end) {  // runs before `first` end before this one
        int const middle = (first + end) / 2;
        bool const apart = work.runs[middle * p.height + row].last < run.first - 1;
        first = apart ? middle + 1 : first;
        end = apart ? end : middle;
    }
    int best = -1, most = -2;
    for (int k = first; k < work.counts[row]; ++k) {
        LaneMaskRun const other = work.runs[k * p.height + row];
        if (other.first > run.last + 1) break;
        visit(k * p.height + row);
        int const shared = lane_mask_shared(run, other);
        if (taken[k * p.height + row] < 0 && shared > most) best = k, most = shared;
    }
    return best;
}

// One warp per pair of rows. Two runs that are each other's best are linked, until none is left:
// the pairs that one gets by taking all of them in the order of shared columns.
__global__ void __launch_bounds__(kThreads) lane_mask_link_kernel(LaneMaskParams p, Workspace all) {
    Place const at = place();
    if (at.row == 0 || at.row >= p.height) return;
    Workspace const work = of_frame(p, all, at.frame);
    int const lower = work.counts[at.row], upper = work.counts[at.row - 1];
    for (bool first = true, more = true; more; first = false) {
        for (int i = at.lane; i < lower; i += 32) {
            int const run = i * p.height + at.row;
            if (work.above[run] >= 0) continue;
            work.best_above[run] = static_cast<std::int16_t>(
                best_of(p, work, work.runs[run], at.row - 1, work.below, [&](int other) {
                    if (first) join(work.parent, run, other);
                }));
        }
        for (int j = at.lane; j < upper; j += 32) {
            int const run = j * p.height + at.row - 1;
            if (work.below[run] >= 0) continue;
            work.best_below[run] = static_cast<std::int16_t>(
                best_of(p, work, work.runs[run], at.row, work.above, [](int) {}));
        }
        __syncwarp();
        bool linked = false;
        for (int i = at.lane; i < lower; i += 32) {
            int const run = i * p.height + at.row, best = work.best_above[run];
            if (work.above[run] >= 0 || best < 0) continue;
            int const over = best * p.height + at.row - 1;
            if (work.best_below[over] != i) continue;
            work.above[run] = static_cast<std::int16_t>(best);
            work.below[over] = static_cast<std::int16_t>(i);
            linked = true;
        }
        __syncwarp();
        more = __any_sync(kAll, linked);
    }
}

// One warp per row: its runs' share in their components.
__global__ void __launch_bounds__(kThreads)
    lane_mask_component_kernel(LaneMaskParams p, Workspace all) {
    Place const at = place();
    if (at.row >= p.height) return;
    Workspace const work = of_frame(p, all, at.frame);
    for (int k = at.lane; k < work.counts[at.row]; k += 32) {
        LaneMaskRun const run = work.runs[k * p.height + at.row];
        int const of = find(work.parent, k * p.height + at.row);
        atomicAdd(&work.area[of], run.last - run.first + 1);
        atomicMin(&work.top[of], at.row);
        atomicMax(&work.bottom[of], at.row);
        atomicMin(&work.square[of], lane_mask_square(p, at.row, run.first));
    }
}

// One warp per row: the length of the lines that start in it.
__global__ void __launch_bounds__(kThreads) lane_mask_line_kernel(LaneMaskParams p, Workspace all) {
    Place const at = place();
    if (at.row >= p.height) return;
    Workspace const work = of_frame(p, all, at.frame);
    for (int k = at.lane; k < work.counts[at.row]; k += 32) {
        int const start = k * p.height + at.row, of = find(work.parent, start);
        int length = 0;
        if (work.below[start] < 0 && work.area[of] >= p.min_area_px &&
            work.bottom[of] - work.top[of] + 1 >= p.min_rows) {
            for (int run = start, row = at.row; run >= 0; ++length) {
                int const next = work.above[run];
                --row;
                run = next < 0 ? -1 : next * p.height + row;
            }
        }
        work.length[start] = length >= p.min_rows ? length : 0;
        work.line_square[start] = work.square[of];
    }
}

struct SelectShared {
    LaneMaskRank best[kWarps];
    int start[LaneMaskParams::kMaxLanes];  // row * runs of a row + run
    int centre[LaneMaskParams::kMaxLanes];
    int found;
};

// One block per frame: the longest lines one after the other, then from left to right.
__global__ void __launch_bounds__(kThreads)
    lane_mask_select_kernel(LaneMaskParams p, Workspace all, Lanes out) {
    LANE_SHARED(SelectShared, shared);
    int const thread = threadIdx.x, lane = thread % 32, warp = thread / 32;
    Workspace const work = of_frame(p, all, blockIdx.x);
    int const most = lane_mask_runs(p);
    LaneMaskRank last{kMost, -1, -1};
    int lines = 0;
    for (; lines < p.max_lanes; ++lines) {
        LaneMaskRank best{0, kMost, kMost};
        for (int row = warp; row < p.height; row += kWarps) {
            for (int k = lane; k < work.counts[row]; k += 32) {
                int const run = k * p.height + row;
                LaneMaskRank const one{work.length[run], work.line_square[run], row * most + k};
                if (lane_mask_before(last, one) && lane_mask_before(one, best)) best = one;
            }
        }
        for (int step = 16; step > 0; step >>= 1) {
            LaneMaskRank const other{__shfl_xor_sync(kAll, best.length, step),
                                     __shfl_xor_sync(kAll, best.square, step),
                                     __shfl_xor_sync(kAll, best.start, step)};
            if (lane_mask_before(other, best)) best = other;
        }
        if (lane == 0) shared.best[warp] = best;
        __syncthreads();
        for (int w = 0; w < kWarps; ++w) {
            if (lane_mask_before(shared.best[w], best)) best = shared.best[w];
        }
        if (thread == 0 && best.length > 0) {
            int const row = best.start / most, run = best.start % most * p.height + row;
            shared.start[lines] = run;
            shared.centre[lines] = work.runs[run].first + work.runs[run].last;
        }
        __syncthreads();
        if (best.length == 0) break;
        last = best;
    }
    for (int slot = thread; slot < p.slots; slot += kThreads) {
        if (slot >= lines) work.starts[slot] = -1;
    }
    if (thread < lines) {
        int before = 0;
        for (int i = 0; i < lines; ++i) {
            int const apart = shared.centre[i] - shared.centre[thread];
            before += apart < 0 || (apart == 0 && i < thread);
        }
        if (before < p.slots) work.starts[before] = shared.start[thread];
    }
    if (thread == 0) {
        out.count[2 * blockIdx.x] = min(lines, p.slots);
        out.count[2 * blockIdx.x + 1] = lines > p.slots ? kLanesDropped : 0;
    }
}

struct LaneShared {
    int length;
    std::int16_t run[LaneMaskParams::kMaxRows];  // from the start upwards, one in every row
    double sum[kWarps];
    int pixels[kWarps];
};

// One block per slot: the centres of a line's runs, and the mean probability of its pixels.
template <typename T>
__global__ void __launch_bounds__(kThreads)
    lane_mask_lane_kernel(LaneMaskParams p, T const* __restrict__ logits, Workspace all,
                          Lanes out) {
    LANE_SHARED(LaneShared, shared);
    int const thread = threadIdx.x, slot = blockIdx.x, warp = thread / 32;
    std::int64_t const frame = blockIdx.y, area = static_cast<std::int64_t>(p.height) * p.width;
    Workspace const work = of_frame(p, all, frame);
    int const start = work.starts[slot], bottom = start < 0 ? 0 : start % p.height;
    if (thread == 0) {
        int length = 0;
        for (int k = start < 0 ? -1 : start / p.height; k >= 0; ++length) {
            shared.run[length] = static_cast<std::int16_t>(k);
            k = work.above[k * p.height + bottom - length];
        }
        shared.length = length;
    }
    __syncthreads();
    int const length = shared.length;
    float* points = out.points + (frame * p.slots + slot) * p.points * 2;
    for (int i = thread; i < p.points; i += kThreads) {
        int const up = i * p.row_step, row = bottom - up;
        points[2 * i] = points[2 * i + 1] = nan_float();
        if (up < length) {
            lane_mask_to_frame(p, work.runs[shared.run[up] * p.height + row], row, points + 2 * i);
        }
    }
    T const* background = logits + frame * 2 * area;
    double sum = 0.0;
    int pixels = 0;
    for (int up = warp; up < length; up += kWarps) {
        int const row = bottom - up;
        LaneMaskRun const run = work.runs[shared.run[up] * p.height + row];
        T const* at = background + static_cast<std::int64_t>(row) * p.width;
        for (int x = run.first + thread % 32; x <= run.last; x += 32) {
            sum += sigmoid32(lane_mask_margin(to_float(at[x]), to_float(at[area + x])));
            ++pixels;
        }
    }
    for (int step = 16; step > 0; step >>= 1) {
        sum += __shfl_xor_sync(kAll, sum, step);
        pixels += __shfl_xor_sync(kAll, pixels, step);
    }
    if (thread % 32 == 0) {
        shared.sum[warp] = sum;
        shared.pixels[warp] = pixels;
    }
    __syncthreads();
    if (thread != 0) return;
    for (int w = 1; w < kWarps; ++w) {
        sum += shared.sum[w];
        pixels += shared.pixels[w];
    }
    out.scores[frame * p.slots + slot] = start < 0 ? 0.0f : static_cast<float>(sum / pixels);
}

Workspace arrays(LaneMaskParams const& p, int batch, void* memory) {
    std::size_t const runs = static_cast<std::size_t>(batch) * p.height * lane_mask_runs(p);
    Workspace work{};
    work.parent = static_cast<std::int32_t*>(memory);
    work.area = work.parent + runs;
    work.top = work.area + runs;
    work.bottom = work.top + runs;
    work.square = work.bottom + runs;
    work.length = work.square + runs;
    work.line_square = work.length + runs;
    work.counts = work.line_square + runs;
    work.starts = work.counts + static_cast<std::size_t>(batch) * p.height;
    work.runs =
        reinterpret_cast<LaneMaskRun*>(work.starts + static_cast<std::size_t>(batch) * p.slots);
    work.above = reinterpret_cast<std::int16_t*>(work.runs + runs);
    work.below = work.above + runs;
    work.best_above = work.below + runs;
    work.best_below = work.best_above + runs;
    return work;
}

}  // namespace

cudaError_t LaneMask::launch(Params const& p, Heads const& heads, int batch, Lanes const& lanes,
                             void* workspace, cudaStream_t stream) {
    Workspace const work = arrays(p, batch, workspace);
    dim3 const threads(kThreads), rows((p.height + kWarps - 1) / kWarps, batch);
    return by_type(heads, [&](auto number) {
        using T = decltype(number);
        T const* logits = heads.as<T>(1);
        return Kernels(stream)
            .then(lane_mask_run_kernel<T>, rows, threads, p, logits, work)
            .then(lane_mask_link_kernel, rows, threads, p, work)
            .then(lane_mask_component_kernel, rows, threads, p, work)
            .then(lane_mask_line_kernel, rows, threads, p, work)
            .then(lane_mask_select_kernel, dim3(batch), threads, p, work, lanes)
            .then(lane_mask_lane_kernel<T>, dim3(p.slots, batch), threads, p, logits, work, lanes)
            .status();
    });
}

}  // namespace trt_lane
