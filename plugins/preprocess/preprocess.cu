// Pre-processing on the GPU: one kernel writes down the taps, a second one makes every pixel.
#include "preprocess/preprocess.h"

#include "common/launch.h"

namespace trt_lane {
namespace {

constexpr int kTapThreads = 128;

// The workspace: first taps of the columns, of the rows, weights of the columns, of the rows.
struct Tables {
    std::int32_t *first_x, *first_y, *weights_x, *weights_y;
};

LANE_HD Tables tables_in(PreprocessParams const& p, std::int32_t* workspace) {
    Tables t{};
    t.first_x = workspace;
    t.first_y = t.first_x + p.input_w;
    t.weights_x = t.first_y + p.input_h;
    t.weights_y = t.weights_x + p.input_w * p.taps_x;
    return t;
}

__global__ void __launch_bounds__(kTapThreads)
    preprocess_taps_kernel(PreprocessParams p, std::int32_t* workspace) {
    int const i = blockIdx.x * kTapThreads + threadIdx.x;
    Tables const t = tables_in(p, workspace);
    if (i < p.input_w) {
        t.first_x[i] = find_taps(p.resampling, p.frame_w, p.input_w, i, true, p.taps_x,
                                 t.weights_x + i * p.taps_x);
    } else if (i < p.input_w + p.input_h) {
        int const y = i - p.input_w;
        t.first_y[y] =
            find_taps(p.resampling, Preprocess::source_rows(p), Preprocess::target_rows(p),
                      y + p.resized_crop_top, false, p.taps_y, t.weights_y + y * p.taps_y);
    }
}

constexpr int kTileX = 32, kTileY = 8;

LANE_HD void store_input(PreprocessParams const& p, void* out, std::int64_t at, int channel,
                         int pixel) {
    float const value = normalised(p, channel, pixel);
    switch (p.output) {
        case Output::kFloat: return store(static_cast<float*>(out) + at, value, p.scale);
        case Output::kHalf: return store(static_cast<Half*>(out) + at, value, p.scale);
        case Output::kInt8: return store(static_cast<std::int8_t*>(out) + at, value, p.scale);
    }
}

template <Pixels kPixels, Resampling kResampling>
__global__ void __launch_bounds__(kTileX* kTileY)
    preprocess_pixels_kernel(PreprocessParams p, Frames frames, std::int32_t* workspace,
                             void* __restrict__ out) {
    int const x = blockIdx.x * kTileX + threadIdx.x, y = blockIdx.y * kTileY + threadIdx.y;
    if (x >= p.input_w || y >= p.input_h) return;
    Tables const t = tables_in(p, workspace);
    std::uint8_t const* data = frames.data[blockIdx.z];
    std::uint8_t const* chroma = frames.chroma[blockIdx.z];
    int const taps_x = kResampling == Resampling::kLinear ? 2 : p.taps_x;
    int const taps_y = kResampling == Resampling::kLinear ? 2 : p.taps_y;
    std::int32_t const* weights_x = t.weights_x + x * taps_x;
    std::int32_t const* weights_y = t.weights_y + y * taps_y;
    int const first_x = t.first_x[x], first_y = t.first_y[y], rows = Preprocess::source_rows(p);
    Bgr sum{0, 0, 0};
    for (int j = 0; j < taps_y; ++j) {
        int const weight_y = weights_y[j];
        int const row = p.crop_top + clamp_int(first_y + j, 0, rows - 1);
        Bgr along{0, 0, 0};
        for (int k = 0; k < taps_x; ++k) {
            int const weight = weights_x[k], column = clamp_int(first_x + k, 0, p.frame_w - 1);
            Bgr const pixel = read_pixel<kPixels>(data, chroma, p.pitch, column, row);
            along.b += weight * pixel.b;
            along.g += weight * pixel.g;
            along.r += weight * pixel.r;
        }
        sum.b += weighed(kResampling, weight_y, between_passes(kResampling, along.b));
        sum.g += weighed(kResampling, weight_y, between_passes(kResampling, along.g));
        sum.r += weighed(kResampling, weight_y, between_passes(kResampling, along.r));
    }
    int const first = p.rgb ? sum.r : sum.b, last = p.rgb ? sum.b : sum.r;
    std::int64_t const plane = static_cast<std::int64_t>(p.input_h) * p.input_w;
    std::int64_t const at = blockIdx.z * 3 * plane + static_cast<std::int64_t>(y) * p.input_w + x;
    store_input(p, out, at, 0, rounded_pixel(kResampling, first));
    store_input(p, out, at + plane, 1, rounded_pixel(kResampling, sum.g));
    store_input(p, out, at + 2 * plane, 2, rounded_pixel(kResampling, last));
}

struct Call {
    PreprocessParams const& p;
    Frames const& frames;
    int batch;
    void* out;
    std::int32_t* workspace;
    cudaStream_t stream;
};

template <Pixels kPixels, Resampling kResampling>
cudaError_t start(Call const& c) {
    dim3 const blocks((c.p.input_w + kTileX - 1) / kTileX, (c.p.input_h + kTileY - 1) / kTileY,
                      c.batch);
    return launch(preprocess_pixels_kernel<kPixels, kResampling>, blocks, dim3(kTileX, kTileY),
                  c.stream, c.p, c.frames, c.workspace, c.out);
}

template <Pixels kPixels>
cudaError_t start_for_filter(Call const& c) {
    switch (c.p.resampling) {
        case Resampling::kLinear: return start<kPixels, Resampling::kLinear>(c);
        case Resampling::kCubic: return start<kPixels, Resampling::kCubic>(c);
        default: return start<kPixels, Resampling::kAntialiased>(c);
    }
}

}  // namespace

cudaError_t Preprocess::launch(Params const& p, Frames const& frames, int batch, void* out,
                               void* workspace, cudaStream_t stream) {
    auto* tables = static_cast<std::int32_t*>(workspace);
    cudaError_t const found = trt_lane::launch(
        preprocess_taps_kernel, dim3((p.input_w + p.input_h + kTapThreads - 1) / kTapThreads),
        dim3(kTapThreads), stream, p, tables);
    if (found != cudaSuccess) return found;
    Call const call{p, frames, batch, out, tables, stream};
    switch (p.pixels) {
        case Pixels::kBgr: return start_for_filter<Pixels::kBgr>(call);
        case Pixels::kRgb: return start_for_filter<Pixels::kRgb>(call);
        case Pixels::kNv12: return start_for_filter<Pixels::kNv12>(call);
        default: return start_for_filter<Pixels::kYuyv>(call);
    }
}

}  // namespace trt_lane
