// Bézier curves on the GPU: a block per frame chooses the columns, a block per lane samples.
#include "bezier_curve/bezier_curve.h"

#include "common/drafts_kernel.h"

namespace trt_lane {
namespace {

constexpr int kChooseThreads = 256;

struct ChooseShared {
    float probability[BezierCurveParams::kMaxColumns];
    bool chosen[BezierCurveParams::kMaxColumns];
};

template <typename T>
__global__ void __launch_bounds__(kChooseThreads)
    bezier_choose_kernel(BezierCurveParams const __grid_constant__ p,
                         Heads const __grid_constant__ heads, BezierWorkspace space) {
    LANE_SHARED(ChooseShared, shared);
    int const thread = threadIdx.x, frame = blockIdx.x;
    T const* logits = heads.as<T>(0) + static_cast<std::int64_t>(frame) * p.columns;
    T const* curves = heads.as<T>(1) + static_cast<std::int64_t>(frame) * p.columns * 8;
    for (int c = thread; c < p.columns; c += kChooseThreads) {
        shared.probability[c] = bezier_probability(logits, curves, c);
    }
    __syncthreads();
    for (int c = thread; c < p.columns; c += kChooseThreads) {
        shared.chosen[c] = bezier_chosen(p, shared.probability, c);
    }
    __syncthreads();
    if (thread >= 32) return;
    int count = 0;
    for (int base = 0; base < p.columns; base += 32) {
        int const c = base + thread;
        bool stays = c < p.columns && shared.chosen[c];
        if (stays) {
            int rivals = 0;
            for (int other = 0; other < p.columns; ++other) {
                rivals +=
                    shared.chosen[other] && shared.probability[other] >= shared.probability[c];
            }
            stays = bezier_stays(p, rivals);
        }
        unsigned const all = __ballot_sync(~0u, stays);
        if (stays) {
            int const to = frame * p.most + count + __popc(all & ((1u << thread) - 1));
            space.columns[to] = c;
            space.drafts.scores[to] = shared.probability[c];
        }
        count += __popc(all);
    }
    if (thread == 0) space.drafts.count[frame] = count;
}

constexpr int kSampleThreads = 256;

// The nearest sample of a row, by a warp; the first of equals.
__device__ inline int nearest_sample(BezierCurveParams const& p, BezierCubic const& cubic, int row,
                                     double* distance) {
    double best = INFINITY;
    int at = p.samples;
    for (int i = threadIdx.x % 32; i < p.samples; i += 32) {
        double const d = bezier_distance(p, row, cubic.at(p, i).y);
        if (d < best) best = d, at = i;
    }
    for (int step = 16; step > 0; step /= 2) {
        double const other = __shfl_xor_sync(~0u, best, step);
        int const index = __shfl_xor_sync(~0u, at, step);
        if (other < best || (other == best && index < at)) best = other, at = index;
    }
    *distance = best;
    return at;
}

template <typename T>
__global__ void __launch_bounds__(kSampleThreads)
    bezier_sample_kernel(BezierCurveParams const __grid_constant__ p,
                         Heads const __grid_constant__ heads, BezierWorkspace space) {
    int const index = blockIdx.x, frame = blockIdx.y;
    if (index >= space.drafts.count[frame]) return;
    int const column = space.columns[frame * p.most + index];
    auto const cubic = BezierCubic::of(heads.as<T>(1) +
                                       (static_cast<std::int64_t>(frame) * p.columns + column) * 8);
    bool const sound = cubic.sound();
    float* points = space.drafts.lane(frame, index);
    if (p.rows == 0) {
        for (int i = threadIdx.x; i < p.samples; i += kSampleThreads) {
            bezier_sample(p, cubic.at(p, i), points + 2 * i);
            if (!sound) bezier_no_point(points + 2 * i);
        }
        return;
    }
    for (int row = threadIdx.x / 32; row < p.rows; row += kSampleThreads / 32) {
        double distance;
        int const nearest = nearest_sample(p, cubic, row, &distance);
        if (threadIdx.x % 32 != 0) continue;
        bezier_row_point(p, row, cubic.at(p, nearest), distance, points + 2 * row);
        if (!sound) bezier_no_point(points + 2 * row);
    }
}

}  // namespace

cudaError_t BezierCurve::launch(Params const& p, Heads const& heads, int batch, Lanes const& lanes,
                                void* workspace, cudaStream_t stream) {
    auto const space = BezierWorkspace::at(p, workspace, batch);
    auto const drafted = by_type(heads, [&](auto number) {
        using T = decltype(number);
        return Kernels(stream)
            .then(bezier_choose_kernel<T>, dim3(batch), dim3(kChooseThreads), p, heads, space)
            .then(bezier_sample_kernel<T>, dim3(p.most, batch), dim3(kSampleThreads), p, heads,
                  space);
    });
    return assemble(space.drafts, batch, p.slots, kLeastPoints, lanes, drafted);
}

}  // namespace trt_lane
