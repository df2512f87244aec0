// The last kernel of decoders that find lanes with gaps: drafts to slots. Included by .cu files.
#pragma once

#include "common/drafts.h"
#include "common/kernels.h"

namespace trt_lane {
namespace {

constexpr int kAssembleThreads = 256;
constexpr int kAssembleWarps = kAssembleThreads / 32;

struct AssembleShared {
    int length[Drafts::kMost];  // points of a draft, below zero when it has to be turned around
    int draft_of_slot[Drafts::kMost];
};

// Which of 32 points of a draft there are.
__device__ inline unsigned assemble_present(float const* draft, int i, int width) {
    float const x = i < width ? draft[2 * i] : nan_float();
    return __ballot_sync(~0u, x == x);
}

// One block per frame: drafts of enough points go to the slots in their order.
__global__ void __launch_bounds__(kAssembleThreads)
    assemble_kernel(Drafts drafts, int slots, int least, Lanes out) {
    LANE_SHARED(AssembleShared, shared);
    int const warp = threadIdx.x / 32, lane = threadIdx.x % 32, frame = blockIdx.x;
    int const count = drafts.count[frame], width = drafts.width;
    for (int d = warp; d < count; d += kAssembleWarps) {
        float const* draft = drafts.lane(frame, d);
        int length = 0, first = 0, last = 0;
        for (int base = 0; base < width; base += 32) {
            unsigned const present = assemble_present(draft, base + lane, width);
            if (!present) continue;
            if (length == 0) first = base + __ffs(present) - 1;
            last = base + 31 - __clz(present);
            length += __popc(present);
        }
        bool const turned = length > 0 && draft[2 * first + 1] < draft[2 * last + 1];
        if (lane == 0) shared.length[d] = turned ? -length : length;
    }
    for (int slot = threadIdx.x; slot < slots; slot += kAssembleThreads) {
        shared.draft_of_slot[slot] = -1;
    }
    __syncthreads();
    if (threadIdx.x == 0) {
        int kept = 0;
        for (int d = 0; d < count; ++d) {
            int const length = shared.length[d] < 0 ? -shared.length[d] : shared.length[d];
            if (length < least || length == 0) continue;
            if (kept < slots) shared.draft_of_slot[kept] = d;
            ++kept;
        }
        out.count[2 * frame] = min(kept, slots);
        out.count[2 * frame + 1] = kept > slots ? kLanesDropped : 0;
    }
    __syncthreads();
    for (int slot = warp; slot < slots; slot += kAssembleWarps) {
        int const d = shared.draft_of_slot[slot];
        int const signed_length = d < 0 ? 0 : shared.length[d];
        int const length = signed_length < 0 ? -signed_length : signed_length;
        float const* draft = drafts.lane(frame, d < 0 ? 0 : d);
        std::int64_t const place = static_cast<std::int64_t>(frame) * slots + slot;
        float* points = out.points + place * width * 2;
        for (int base = 0, written = 0; written < length; base += 32) {
            unsigned const present = assemble_present(draft, base + lane, width);
            int const rank = written + __popc(present & ((1u << lane) - 1));
            int const to = signed_length < 0 ? length - 1 - rank : rank;
            if (present >> lane & 1) {
                points[2 * to] = draft[2 * (base + lane)];
                points[2 * to + 1] = draft[2 * (base + lane) + 1];
            }
            written += __popc(present);
        }
        for (int i = 2 * length + lane; i < 2 * width; i += 32) points[i] = nan_float();
        if (lane == 0) {
            out.scores[place] = d < 0 ? 0.0f : drafts.scores[frame * drafts.most + d];
        }
    }
}

cudaError_t assemble(Drafts const& drafts, int batch, int slots, int least, Lanes const& lanes,
                     Kernels kernels) {
    return kernels
        .then(assemble_kernel, dim3(batch), dim3(kAssembleThreads), drafts, slots, least, lanes)
        .status();
}

}  // namespace
}  // namespace trt_lane
