// Segmentation on the GPU: probabilities of the rows that are read, the place of every lane in each
// of them, and the lanes put together.
#include "segmentation/segmentation.h"

#include "common/kernels.h"

namespace trt_lane {
namespace {

constexpr int kThreads = 128;
constexpr int kWarps = kThreads / 32;
constexpr int kMaxLanes = SegmentationParams::kMaxLanes;
// __launch_bounds__ names blocks, too, where ptxas would rather spill than use more registers.
constexpr unsigned kAll = 0xffffffffu;

// Which lanes exist; every kernel finds it anew, which is cheaper than one more launch.
struct Selection {
    float existence[kMaxLanes];
    int kept[kMaxLanes];
    int count;
};

template <typename T>
__device__ __forceinline__ void select(SegmentationParams const& p, T const* logits, int thread,
                                       Selection& selection) {
    if (thread < p.lanes) {
        selection.existence[thread] = segmentation_existence(to_float(logits[thread]));
    }
    __syncthreads();
    if (thread == 0) {
        selection.count = segmentation_select(p, selection.existence, selection.kept);
    }
    __syncthreads();
}

struct ProbabilityShared {
    Selection selection;
    int needed;
    float logit[kMaxLanes + 1][kThreads];  // each column is of one thread alone
};

// One thread per pixel of the network input, one row per block; (N, kept, H, W).
template <typename T>
__global__ void __launch_bounds__(kThreads, 7)
    segmentation_probability_kernel(SegmentationParams p, T const* __restrict__ maps,
                                    T const* __restrict__ lane, float* __restrict__ probability) {
    LANE_SHARED(ProbabilityShared, shared);
    int const thread = threadIdx.x, row = blockIdx.y, frame = blockIdx.z;
    if (thread == 0) shared.needed = 0;
    select(p, lane + static_cast<std::int64_t>(frame) * p.lanes, thread, shared.selection);
    for (int j = thread; j < p.points; j += kThreads) {
        int const read = segmentation_row(p, j);
        // Whoever comes first writes the same.
        if (read >= 0 && abs(read - row) <= p.blur / 2) atomicOr(&shared.needed, 1);
    }
    __syncthreads();
    int const x = blockIdx.x * kThreads + thread;
    if (!shared.needed || x >= p.input_w) return;

    std::int64_t const plane = static_cast<std::int64_t>(p.map_h) * p.map_w;
    SegmentationTaps const rows = segmentation_taps(p.map_h, p.input_h, row);
    SegmentationTaps const columns = segmentation_taps(p.map_w, p.input_w, x);
    maps += static_cast<std::int64_t>(frame) * (p.lanes + 1) * plane;
    T const* const first_row = maps + static_cast<std::int64_t>(rows.first) * p.map_w;
    T const* const second_row = maps + static_cast<std::int64_t>(rows.second) * p.map_w;
    bool sound00 = true, sound01 = true, sound10 = true, sound11 = true;
    for (int c = 0; c <= p.lanes; ++c) {
        sound00 = sound00 && finite(to_float(first_row[c * plane + columns.first]));
        sound01 = sound01 && finite(to_float(first_row[c * plane + columns.second]));
        sound10 = sound10 && finite(to_float(second_row[c * plane + columns.first]));
        sound11 = sound11 && finite(to_float(second_row[c * plane + columns.second]));
    }
    float largest = -INFINITY;
    for (int c = 0; c <= p.lanes; ++c) {
        T const* above = first_row + c * plane;
        T const* below = second_row + c * plane;
        float const unsound = segmentation_unsound(c);
        float const left = segmentation_mixed(
            rows.first_weight, sound00 ? to_float(above[columns.first]) : unsound,
            rows.second_weight, sound10 ? to_float(below[columns.first]) : unsound);
        float const right = segmentation_mixed(
            rows.first_weight, sound01 ? to_float(above[columns.second]) : unsound,
            rows.second_weight, sound11 ? to_float(below[columns.second]) : unsound);
        float const logit =
            segmentation_mixed(columns.first_weight, left, columns.second_weight, right);
        shared.logit[c][thread] = logit;
        largest = logit > largest ? logit : largest;
    }
    float sum = 0.0f;
    for (int c = 0; c <= p.lanes; ++c) {
        float const weight = exp32(shared.logit[c][thread] - largest);
        shared.logit[c][thread] = weight;
        sum += weight;
    }
    for (int k = 0; k < shared.selection.count; ++k) {
        std::int64_t const map = (static_cast<std::int64_t>(frame) * p.kept + k) * p.input_h + row;
        probability[map * p.input_w + x] = shared.logit[shared.selection.kept[k] + 1][thread] / sum;
    }
}

struct PlaceShared {
    Selection selection;
    double vertical[kThreads + SegmentationParams::kMaxBlur - 1];
    float largest[kWarps];
    int column[kWarps];
};

// Of equals the first, as numpy's argmax.
__device__ __forceinline__ bool goes_before(float a, int a_column, float b, int b_column) {
    return a > b || (a == b && a_column < b_column);
}

// One block per point of a lane: the column of the largest blurred probability; (N, kept, points).
template <typename T>
__global__ void __launch_bounds__(kThreads, 8)
    segmentation_place_kernel(SegmentationParams p, T const* __restrict__ lane,
                              float const* __restrict__ probability, int* __restrict__ places) {
    LANE_SHARED(PlaceShared, shared);
    int const thread = threadIdx.x, j = blockIdx.x, k = blockIdx.y, frame = blockIdx.z;
    select(p, lane + static_cast<std::int64_t>(frame) * p.lanes, thread, shared.selection);
    std::int64_t const map = static_cast<std::int64_t>(frame) * p.kept + k;
    int const row = segmentation_row(p, j), half = p.blur / 2;
    if (k >= shared.selection.count || row < 0) {
        if (thread == 0) places[map * p.points + j] = -1;
        return;
    }
    probability += map * p.input_h * p.input_w;
    double const scale = 1.0 / (p.blur * p.blur);
    float largest = -1.0f;
    int column = 0;
    for (int begin = 0; begin < p.input_w; begin += kThreads) {
        for (int i = thread; i < kThreads + 2 * half; i += kThreads) {
            int const x = min(max(begin + i - half, 0), p.input_w - 1);
            double sum = 0.0;
            for (int dy = -half; dy <= half; ++dy) {
                int const y = min(max(row + dy, 0), p.input_h - 1);
                sum += probability[static_cast<std::int64_t>(y) * p.input_w + x];
            }
            shared.vertical[i] = sum;
        }
        __syncthreads();
        int const x = begin + thread;
        if (x < p.input_w) {
            double sum = 0.0;
            for (int i = 0; i < p.blur; ++i) sum += shared.vertical[thread + i];
            float const blurred = static_cast<float>(sum * scale);
            if (blurred > largest) largest = blurred, column = x;
        }
        __syncthreads();
    }
    for (int step = 16; step > 0; step >>= 1) {
        float const other = __shfl_xor_sync(kAll, largest, step);
        int const other_column = __shfl_xor_sync(kAll, column, step);
        if (goes_before(other, other_column, largest, column)) {
            largest = other, column = other_column;
        }
    }
    if (thread % 32 == 0) {
        shared.largest[thread / 32] = largest;
        shared.column[thread / 32] = column;
    }
    __syncthreads();
    if (thread != 0) return;
    for (int w = 1; w < kWarps; ++w) {
        if (goes_before(shared.largest[w], shared.column[w], largest, column)) {
            largest = shared.largest[w], column = shared.column[w];
        }
    }
    places[map * p.points + j] = segmentation_place(p, column, largest);
}

struct AssembleShared {
    Selection selection;
    int found[kMaxLanes];
    int lane_of_slot[64];
};

// One block per frame: lanes with enough points go to the slots in the head's order, their points
// without gaps.
template <typename T>
__global__ void __launch_bounds__(kThreads)
    segmentation_assemble_kernel(SegmentationParams p, T const* __restrict__ lane,
                                 int const* __restrict__ places, Lanes out) {
    LANE_SHARED(AssembleShared, shared);
    int const thread = threadIdx.x, warp = thread / 32, frame = blockIdx.x;
    unsigned const before = (1u << thread % 32) - 1u;
    select(p, lane + static_cast<std::int64_t>(frame) * p.lanes, thread, shared.selection);
    places += static_cast<std::int64_t>(frame) * p.kept * p.points;
    for (int k = warp; k < p.kept; k += kWarps) {
        int found = 0;
        for (int begin = 0; begin < p.points; begin += 32) {
            int const j = begin + thread % 32;
            bool const here = j < p.points && places[k * p.points + j] >= 0;
            found += __popc(__ballot_sync(kAll, here));
        }
        if (thread % 32 == 0) shared.found[k] = found;
    }
    __syncthreads();
    if (thread == 0) {
        int lanes = 0;
        for (int k = 0; k < shared.selection.count; ++k) {
            if (shared.found[k] < Segmentation::kMinPoints) continue;
            if (lanes < p.slots) shared.lane_of_slot[lanes] = k;
            ++lanes;
        }
        for (int slot = lanes; slot < p.slots; ++slot) shared.lane_of_slot[slot] = -1;
        out.count[2 * frame] = min(lanes, p.slots);
        out.count[2 * frame + 1] = lanes > p.slots ? kLanesDropped : 0;
    }
    __syncthreads();
    for (int slot = warp; slot < p.slots; slot += kWarps) {
        int const k = shared.lane_of_slot[slot];
        float* points =
            out.points + (static_cast<std::int64_t>(frame) * p.slots + slot) * p.points * 2;
        int written = 0;
        for (int begin = 0; begin < p.points; begin += 32) {
            int const j = begin + thread % 32;
            int const column = k >= 0 && j < p.points ? places[k * p.points + j] : -1;
            unsigned const here = __ballot_sync(kAll, column >= 0);
            if (column >= 0) {
                int const at = written + __popc(here & before);
                points[2 * at] = static_cast<float>(segmentation_x(p, column));
                points[2 * at + 1] = segmentation_y(p, j);
            }
            written += __popc(here);
        }
        for (int i = 2 * written + thread % 32; i < 2 * p.points; i += 32) points[i] = nan_float();
        if (thread % 32 == 0) {
            out.scores[frame * p.slots + slot] =
                k < 0 ? 0.0f : shared.selection.existence[shared.selection.kept[k]];
        }
    }
}

}  // namespace

cudaError_t Segmentation::launch(Params const& p, Heads const& heads, int batch, Lanes const& lanes,
                                 void* workspace, cudaStream_t stream) {
    auto* probability = static_cast<float*>(workspace);
    auto* places =
        reinterpret_cast<int*>(static_cast<char*>(workspace) + probability_bytes(p, batch));
    dim3 const threads(kThreads), read(p.points, p.kept, batch);
    dim3 const pixels((p.input_w + kThreads - 1) / kThreads, p.input_h, batch);
    return by_type(heads, [&](auto number) {
        using T = decltype(number);
        T const* lane = heads.as<T>(1);
        return Kernels(stream)
            .then(segmentation_probability_kernel<T>, pixels, threads, p, heads.as<T>(0), lane,
                  probability)
            .then(segmentation_place_kernel<T>, read, threads, p, lane, probability, places)
            .then(segmentation_assemble_kernel<T>, dim3(batch), threads, p, lane, places, lanes)
            .status();
    });
}

}  // namespace trt_lane
