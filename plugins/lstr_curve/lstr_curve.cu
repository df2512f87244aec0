// LSTR's curves on the GPU: one block per frame, a warp per query, then a warp per lane.
#include "lstr_curve/lstr_curve.h"

#include "common/kernels.h"

namespace trt_lane {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / 32;

struct LstrShared {
    bool kept[LstrCurveParams::kMaxQueries];
    int query_of_slot[LstrCurveParams::kMaxQueries];
};

template <typename T>
__global__ void __launch_bounds__(kThreads)
    lstr_curve_kernel(LstrCurveParams const __grid_constant__ p,
                      Heads const __grid_constant__ heads, Lanes out) {
    LANE_SHARED(LstrShared, shared);
    int const warp = threadIdx.x / 32, lane = threadIdx.x % 32, frame = blockIdx.x;
    for (int q = warp; q < p.queries; q += kWarps) {
        auto const query = LstrQuery<T>::of(p, heads, frame, q);
        int count = 0;
        if (query.is_lane(p)) {  // the same for the whole warp
            for (int base = 0; base < p.rows; base += 32) {
                bool const here = base + lane < p.rows && finite(query.x(p, base + lane));
                count += __popc(__ballot_sync(~0u, here));
            }
        }
        if (lane == 0) shared.kept[q] = count >= p.min_points;
    }
    for (int slot = threadIdx.x; slot < p.slots; slot += kThreads) shared.query_of_slot[slot] = -1;
    __syncthreads();
    if (threadIdx.x == 0) {
        int kept = 0;
        for (int q = 0; q < p.queries; ++q) {
            if (!shared.kept[q]) continue;
            if (kept < p.slots) shared.query_of_slot[kept] = q;
            ++kept;
        }
        out.count[2 * frame] = min(kept, p.slots);
        out.count[2 * frame + 1] = kept > p.slots ? kLanesDropped : 0;
    }
    __syncthreads();
    for (int slot = warp; slot < p.slots; slot += kWarps) {
        int const q = shared.query_of_slot[slot];
        auto const query = LstrQuery<T>::of(p, heads, frame, q < 0 ? 0 : q);
        std::int64_t const place = static_cast<std::int64_t>(frame) * p.slots + slot;
        float* points = out.points + place * p.rows * 2;
        for (int row = lane; row < p.rows; row += 32) {
            double const x = q < 0 ? static_cast<double>(nan_float()) : query.x(p, row);
            points[2 * row] = static_cast<float>(x);
            points[2 * row + 1] = finite(x) ? static_cast<float>(p.y_px[row]) : nan_float();
        }
        if (lane == 0) out.scores[place] = q < 0 ? 0.0f : query.score(p);
    }
}

}  // namespace

cudaError_t LstrCurve::launch(Params const& p, Heads const& heads, int batch, Lanes const& lanes,
                              void*, cudaStream_t stream) {
    return by_type(heads, [&](auto number) {
        return trt_lane::launch(lstr_curve_kernel<decltype(number)>, dim3(batch), dim3(kThreads),
                                stream, p, heads, lanes);
    });
}

}  // namespace trt_lane
