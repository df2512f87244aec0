// From camera frame to network input: the maths; trt_lane/image.py is the definition.
//
// Every filter is taps with whole-number weights along x, then along y, rounded where OpenCV or
// Pillow round, so that pixels are theirs to the bit:
//   - linear: 2 taps of 11 bits; the sum over x keeps 15 bits for y (OpenCV's resize, uint8)
//   - cubic: 4 taps of 11 bits; one rounding at the end (OpenCV's vector code rounds in float32)
//   - antialiased: a triangle as wide as the scale, 22 bits, rounded to 8 bits between x and y
//     (Pillow)
#pragma once

#include "common/decoder.h"

namespace trt_lane {

enum class Resampling : int { kLinear, kCubic, kAntialiased };
enum class Pixels : int { kBgr, kRgb, kNv12, kYuyv };
enum class Output : int { kFloat, kHalf, kInt8 };

struct PreprocessParams {
    int frame_h, frame_w, crop_top;
    int input_h, input_w, resized_crop_top;
    int pitch;           // bytes from row to row
    int taps_x, taps_y;  // at most, of any output pixel
    Resampling resampling;
    Pixels pixels;
    Output output;
    bool rgb;                    // the network's order
    float factor[3], offset[3];  // input = pixel * factor + offset, in the network's order
    float scale;                 // of an int8 output
};

// Cameras of one batch, all of one size and format.
struct Frames {
    static constexpr int kMaxBatch = 16;
    std::uint8_t const* data[kMaxBatch];
    std::uint8_t const* chroma[kMaxBatch];  // of nv12
};

constexpr int kWeightBits = 11;  // OpenCV's INTER_RESIZE_COEF_BITS
constexpr int kPillowBits = 22;  // Pillow's PRECISION_BITS

struct Bgr {
    int b, g, r;
};

LANE_HD int clamp_int(int value, int low, int high) {
    return value < low ? low : (value > high ? high : value);
}

// ---- taps --------------------------------------------------------------------------------------

// The most taps that any of `target` pixels has of `source` ones.
LANE_HD int most_taps(Resampling resampling, int source, int target) {
    if (resampling == Resampling::kLinear) return 2;
    if (resampling == Resampling::kCubic) return 4;
    if (source == target) return 1;
    double const scale = static_cast<double>(source) / target;
    return static_cast<int>(2 * (scale > 1 ? scale : 1.0)) + 2;
}

// First source pixel (before clamping to the frame) of output pixel i, and `taps` weights.
LANE_HD int find_taps(Resampling resampling, int source, int target, int i, bool along_x, int taps,
                      std::int32_t* weights) {
    if (resampling == Resampling::kAntialiased) {
        for (int k = 0; k < taps; ++k) weights[k] = 0;
        if (source == target) {
            weights[0] = 1 << kPillowBits;
            return i;
        }
        double const scale = static_cast<double>(source) / target;
        double const support = scale > 1 ? scale : 1.0;
        double const centre = (i + 0.5) * scale;
        int const begin = static_cast<int>(centre - support + 0.5);
        int const end = static_cast<int>(centre + support + 0.5);
        int const first = begin > 0 ? begin : 0, last = end < source ? end : source;
        double sum = 0;
        for (int k = 0; k < last - first; ++k) {
            double const apart = std::fabs((first + k + 0.5 - centre) / support);
            sum += apart < 1 ? 1 - apart : 0;
        }
        for (int k = 0; k < last - first; ++k) {
            double const apart = std::fabs((first + k + 0.5 - centre) / support);
            double const weight = (apart < 1 ? 1 - apart : 0) / sum;
            weights[k] = static_cast<std::int32_t>(std::floor(weight * (1 << kPillowBits) + 0.5));
        }
        return first;
    }
    double const scale = 1.0 / (static_cast<double>(target) / source);
    float const at = static_cast<float>((i + 0.5) * scale - 0.5);
    float const whole = std::floor(at);
    int first = static_cast<int>(whole);
    float x = at - whole;
    float const one = 1 << kWeightBits;
    if (resampling == Resampling::kLinear) {
        if (along_x && (first < 0 || first >= source - 1)) {
            x = 0;
            first = first < 0 ? 0 : source - 1;
        }
        weights[0] = static_cast<std::int32_t>(std::rint((1.0f - x) * one));
        weights[1] = static_cast<std::int32_t>(std::rint(x * one));
        return first;
    }
    float const a = -0.75f;
    float const c0 = ((a * (x + 1) - 5 * a) * (x + 1) + 8 * a) * (x + 1) - 4 * a;
    float const c1 = ((a + 2) * x - (a + 3)) * x * x + 1;
    float const c2 = ((a + 2) * (1 - x) - (a + 3)) * (1 - x) * (1 - x) + 1;
    float const c3 = 1.0f - c0 - c1 - c2;
    weights[0] = static_cast<std::int32_t>(std::rint(c0 * one));
    weights[1] = static_cast<std::int32_t>(std::rint(c1 * one));
    weights[2] = static_cast<std::int32_t>(std::rint(c2 * one));
    weights[3] = static_cast<std::int32_t>(std::rint(c3 * one));
    return first - 1;
}

// What the sum along x becomes before it is weighed along y.
LANE_HD int between_passes(Resampling resampling, int sum) {
    if (resampling == Resampling::kLinear) return sum >> 4;
    if (resampling == Resampling::kCubic) return sum;
    return clamp_int((sum + (1 << (kPillowBits - 1))) >> kPillowBits, 0, 255);
}

// One addend along y.
LANE_HD int weighed(Resampling resampling, int weight, int value) {
    int const product = weight * value;
    return resampling == Resampling::kLinear ? product >> 16 : product;
}

// The pixel, 0..255, of the sum along y.
LANE_HD int rounded_pixel(Resampling resampling, int sum) {
    if (resampling == Resampling::kLinear) return clamp_int((sum + 2) >> 2, 0, 255);
    return clamp_int((sum + (1 << 21)) >> 22, 0, 255);  // 2 x 11 bits, or 22
}

// ---- pixels ------------------------------------------------------------------------------------

// BT.601 in 20 bits, as OpenCV's cvtColor.
LANE_HD Bgr from_yuv(int luma, int u, int v) {
    int const y = (luma > 16 ? luma - 16 : 0) * 1220542, half = 1 << 19;
    u -= 128;
    v -= 128;
    return {clamp_int((y + 2116026 * u + half) >> 20, 0, 255),
            clamp_int((y - 852492 * v - 409993 * u + half) >> 20, 0, 255),
            clamp_int((y + 1673527 * v + half) >> 20, 0, 255)};
}

template <Pixels kPixels>
LANE_HD Bgr read_pixel(std::uint8_t const* data, std::uint8_t const* chroma, std::int64_t pitch,
                       int x, int y) {
    std::uint8_t const* row = data + y * pitch;
    if constexpr (kPixels == Pixels::kBgr) {
        return {row[3 * x], row[3 * x + 1], row[3 * x + 2]};
    } else if constexpr (kPixels == Pixels::kRgb) {
        return {row[3 * x + 2], row[3 * x + 1], row[3 * x]};
    } else if constexpr (kPixels == Pixels::kNv12) {
        std::uint8_t const* pair = chroma + (y / 2) * pitch + x / 2 * 2;
        return from_yuv(row[x], pair[0], pair[1]);
    } else {
        std::uint8_t const* pair = row + x / 2 * 4;
        return from_yuv(pair[x % 2 * 2], pair[1], pair[3]);
    }
}

// ---- the network's numbers ---------------------------------------------------------------------

LANE_HD float normalised(PreprocessParams const& p, int channel, int pixel) {
    return static_cast<float>(pixel) * p.factor[channel] + p.offset[channel];
}

LANE_HD void store(float* at, float value, float) { *at = value; }
LANE_HD void store(Half* at, float value, float) { *at = to_half(value); }
LANE_HD void store(std::int8_t* at, float value, float scale) {
    float const steps = std::rint(value / scale);
    *at = static_cast<std::int8_t>(steps < -128 ? -128.0f : (steps > 127 ? 127.0f : steps));
}

struct Preprocess {
    using Params = PreprocessParams;

    static Params make(Fields const& fields) {
        Params p{};
        p.frame_h = static_cast<int>(fields.numbers("frame_hw")[0]);
        p.frame_w = static_cast<int>(fields.numbers("frame_hw")[1]);
        p.input_h = static_cast<int>(fields.numbers("input_hw")[0]);
        p.input_w = static_cast<int>(fields.numbers("input_hw")[1]);
        p.crop_top = fields.integer("crop_top");
        p.resized_crop_top = fields.integer("resized_crop_top");
        p.resampling = choice(fields, "resampling", Resampling::kLinear);
        p.pixels = choice(fields, "pixels", Pixels::kBgr);
        p.output = choice(fields, "output", Output::kFloat);
        p.rgb = fields.text("order") == "RGB";
        for (int c = 0; c < 3; ++c) {
            double const mean = fields.numbers("mean")[c], std = fields.numbers("std")[c];
            p.factor[c] = static_cast<float>(1 / (255 * std));
            p.offset[c] = static_cast<float>(-mean / std);
        }
        p.scale = static_cast<float>(fields.number("scale"));
        if (p.crop_top >= p.frame_h) {
            fields.refuse("crop_top is " + std::to_string(p.crop_top) +
                          "; expected less than the frame's " + std::to_string(p.frame_h) +
                          " rows");
        }
        bool const yuv = p.pixels == Pixels::kNv12 || p.pixels == Pixels::kYuyv;
        if (yuv && (p.frame_w % 2 || (p.pixels == Pixels::kNv12 && p.frame_h % 2))) {
            fields.refuse("frame_hw is odd; expected even sizes for " + fields.text("pixels"));
        }
        int const bytes = row_bytes(p);
        p.pitch = fields.integer("pitch") ? fields.integer("pitch") : bytes;
        if (p.pitch < bytes) {
            fields.refuse("pitch is " + std::to_string(p.pitch) + "; expected at least the " +
                          std::to_string(bytes) + " bytes of a row");
        }
        p.taps_x = most_taps(p.resampling, p.frame_w, p.input_w);
        p.taps_y = most_taps(p.resampling, source_rows(p), target_rows(p));
        return p;
    }

    static int row_bytes(Params const& p) {
        int const per_two = p.pixels == Pixels::kNv12 ? 2 : p.pixels == Pixels::kYuyv ? 4 : 6;
        return p.frame_w * per_two / 2;
    }
    // Rows of bytes of one frame, the chroma of nv12 included.
    static int byte_rows(Params const& p) {
        return p.pixels == Pixels::kNv12 ? p.frame_h * 3 / 2 : p.frame_h;
    }
    LANE_HD static int source_rows(Params const& p) { return p.frame_h - p.crop_top; }
    LANE_HD static int target_rows(Params const& p) { return p.input_h + p.resized_crop_top; }

    // First taps and weights of all columns and rows.
    static std::size_t workspace_bytes(Params const& p) {
        std::size_t const columns = static_cast<std::size_t>(p.input_w) * (1 + p.taps_x);
        std::size_t const rows = static_cast<std::size_t>(p.input_h) * (1 + p.taps_y);
        return (columns + rows) * sizeof(std::int32_t);
    }

    // Calls work(frames, count, out) for as many frames at a time as a launch takes, until one
    // fails. `frame(i)` gives the first bytes of frame i: data, and chroma or nullptr where it
    // follows.
    template <typename FrameAt, typename Work>
    static int in_batches(Params const& p, int batch, void* out, FrameAt const& frame,
                          Work const& work) {
        std::size_t const size = p.output == Output::kFloat ? 4 : p.output == Output::kHalf ? 2 : 1;
        std::size_t const bytes = size * 3 * p.input_h * p.input_w;
        for (int begin = 0; begin < batch; begin += Frames::kMaxBatch) {
            Frames frames{};
            int const left = batch - begin, most = Frames::kMaxBatch;
            int const count = left < most ? left : most;
            for (int i = 0; i < count; ++i) {
                std::pair<std::uint8_t const*, std::uint8_t const*> const at = frame(begin + i);
                frames.data[i] = at.first;
                frames.chroma[i] = at.second
                                       ? at.second
                                       : at.first + static_cast<std::size_t>(p.frame_h) * p.pitch;
            }
            int const status = work(frames, count, static_cast<char*>(out) + begin * bytes);
            if (status) return status;
        }
        return 0;
    }

    // Pixels to NCHW on the stream: `out` is float, Half or std::int8_t (batch, 3, h, w).
    static cudaError_t launch(Params const& p, Frames const& frames, int batch, void* out,
                              void* workspace, cudaStream_t stream);

private:
    // A text's place among its choices, which stand in the order of the enum.
    template <typename E>
    static E choice(Fields const& fields, char const* name, E) {
        std::string const choices = fields.spec().fields[fields.known(name)].choices;
        std::size_t const at = (" " + choices + " ").find(" " + fields.text(name) + " ");
        int index = 0;
        for (std::size_t i = 0; i < at; ++i) index += choices[i] == ' ';
        return static_cast<E>(index);
    }
};

}  // namespace trt_lane
