// Pre-processing on a CPU, a frame: each source row is weighed along x once.
#pragma once

#include <vector>

#include "preprocess/preprocess_avx2.h"
#include "preprocess/preprocess_rows.h"

namespace trt_lane {

class HostPreprocess {
public:
    explicit HostPreprocess(PreprocessParams const& p) : p_(p) {
#ifdef TRT_LANE_AVX2
        avx2_ = has_avx2();
        // Whole vectors only: a rest would need the rows weighed, too.
        halved_ = avx2_ && p.resampling == Resampling::kLinear && p.output == Output::kFloat &&
                  p.frame_w == 2 * p.input_w && p.input_w % 8 == 0 &&
                  Preprocess::source_rows(p) == 2 * Preprocess::target_rows(p);
#endif
        find(p.frame_w, p.input_w, 0, true, p.taps_x, p.input_w, &t_.first_x, &t_.weights_x);
        find(Preprocess::source_rows(p), Preprocess::target_rows(p), p.resized_crop_top, false,
             p.taps_y, p.input_h, &t_.first_y, &t_.weights_y);
        t_.pairs.assign(8 * static_cast<std::size_t>(p.input_w) + 8, 0);
        for (int x = 0; p.resampling == Resampling::kLinear && x < p.input_w; ++x) {
            t_.offset_x.push_back(3 * t_.first_x[x]);
            for (int i = 0; i < 6; ++i) {
                t_.pairs[8 * x + i] = static_cast<std::int16_t>(t_.weights_x[2 * x + i % 2]);
            }
        }
        for (int c = 0; c < 3; ++c) {
            for (int pixel = 0; pixel < 256; ++pixel) {
                store(&half_[c][pixel], normalised(p, c, pixel), p.scale);
                store(&byte_[c][pixel], normalised(p, c, pixel), p.scale);
            }
        }
    }

    PreprocessParams const& params() const { return p_; }

    void run(Frames const& frames, int batch, void* out) const {
        bool const linear = p_.resampling == Resampling::kLinear;
        Rows rows(p_, linear);
        for (int n = 0; n < batch; ++n) {
            rows.frame(frames.data[n], frames.chroma[n]);
            for (int y = 0; y < p_.input_h; ++y) {
                int const done = linear ? linear_row(rows, n, y, out) : taps_row(rows, y);
                write_row(rows.pixels.data(), done, n, y, out);
            }
        }
    }

private:
    // What one call works with: source rows weighed along x, kept while the next output row may
    // need them, and the output row as pixels of four bytes.
    struct Rows {
        Rows(PreprocessParams const& p, bool linear)
            : pixels(p.input_w),
              bytes(3 * static_cast<std::size_t>(p.frame_w) + kPad),
              more_bytes(bytes),
              taps(p.taps_y),
              kept(p.taps_y),
              width(static_cast<std::size_t>(p.input_w) * kLanes) {
            for (Kept& row : kept) linear ? row.narrow.resize(width) : row.wide.resize(width);
        }
        void frame(std::uint8_t const* new_data, std::uint8_t const* new_chroma) {
            data = new_data;
            chroma = new_chroma;
            for (Kept& row : kept) row.source = -1;
        }
        struct Kept {
            int source = -1;
            std::vector<std::int16_t> narrow;
            std::vector<std::int32_t> wide;
        };
        std::vector<std::uint32_t> pixels;
        std::vector<std::uint8_t> bytes, more_bytes;
        std::vector<std::int32_t const*> taps;
        std::vector<Kept> kept;
        std::size_t width;
        std::uint8_t const* data = nullptr;
        std::uint8_t const* chroma = nullptr;
    };

    void find(int source, int target, int skip, bool along_x, int taps, int count,
              std::vector<std::int32_t>* first, std::vector<std::int32_t>* weights) const {
        first->resize(count);
        weights->resize(static_cast<std::size_t>(count) * taps);
        for (int i = 0; i < count; ++i) {
            (*first)[i] = find_taps(p_.resampling, source, target, i + skip, along_x, taps,
                                    weights->data() + static_cast<std::size_t>(i) * taps);
        }
    }

    int source_row(int y, int tap) const {
        return p_.crop_top + clamp_int(t_.first_y[y] + tap, 0, Preprocess::source_rows(p_) - 1);
    }

    // A source row weighed along x; rows are found again by their remainder.
    Rows::Kept& weighed_row(Rows& rows, int source) const {
        Rows::Kept& row = rows.kept[source % p_.taps_y];
        if (row.source == source) return row;
        row.source = source;
        std::uint8_t const* bytes = three_bytes(rows, source, rows.bytes.data());
        if (p_.resampling != Resampling::kLinear) {
            weigh_any(bytes, row.wide.data());
        } else {
            weigh_pairs(bytes, row.narrow.data());
        }
        return row;
    }

    // The source row as three bytes per pixel with kPad bytes behind it that may be read.
    std::uint8_t const* three_bytes(Rows const& rows, int y, std::uint8_t* copy) const {
        std::uint8_t const* row = rows.data + static_cast<std::size_t>(y) * p_.pitch;
        if (p_.pixels == Pixels::kNv12) {
            convert<Pixels::kNv12>(rows, y, copy);
        } else if (p_.pixels == Pixels::kYuyv) {
            convert<Pixels::kYuyv>(rows, y, copy);
        } else if (y + 1 < p_.frame_h) {
            // The next row lies behind it, or at least padding as long as that of every row.
            if (3 * p_.frame_w >= kPad) return row;
            std::memcpy(copy, row, 3 * static_cast<std::size_t>(p_.frame_w));
        } else {
            std::memcpy(copy, row, 3 * static_cast<std::size_t>(p_.frame_w));
        }
        return copy;
    }

    template <Pixels kPixels>
    void convert(Rows const& rows, int y, std::uint8_t* out) const {
        for (int x = 0; x < p_.frame_w; ++x) {
            Bgr const pixel = read_pixel<kPixels>(rows.data, rows.chroma, p_.pitch, x, y);
            out[3 * x] = static_cast<std::uint8_t>(pixel.b);
            out[3 * x + 1] = static_cast<std::uint8_t>(pixel.g);
            out[3 * x + 2] = static_cast<std::uint8_t>(pixel.r);
        }
    }

#ifdef TRT_LANE_AVX2
    int halved_row(Rows& rows, int n, int y, float* out) const {
        int const shifts[3] = {shift_of(0), shift_of(1), shift_of(2)};
        std::size_t const plane = static_cast<std::size_t>(p_.input_h) * p_.input_w;
        std::uint8_t const* above = three_bytes(rows, source_row(y, 0), rows.bytes.data());
        std::uint8_t const* below = three_bytes(rows, source_row(y, 1), rows.more_bytes.data());
        return halve_avx2(p_, above, below, shifts, plane, out + row_of(n, 0, y));
    }
#endif

    // How many pixels of the output row are finished; the others lie in rows.pixels.
    int linear_row(Rows& rows, [[maybe_unused]] int n, int y, [[maybe_unused]] void* out) const {
#ifdef TRT_LANE_AVX2
        if (halved_) return halved_row(rows, n, y, static_cast<float*>(out));
#endif
        std::int16_t const* above = weighed_row(rows, source_row(y, 0)).narrow.data();
        std::int16_t const* below = weighed_row(rows, source_row(y, 1)).narrow.data();
        std::int32_t const* weights = &t_.weights_y[2 * static_cast<std::size_t>(y)];
        auto* bytes = reinterpret_cast<std::uint8_t*>(rows.pixels.data());
        int const count = static_cast<int>(rows.width);
        int done = 0;
#ifdef TRT_LANE_AVX2
        if (avx2_ && p_.output == Output::kFloat) {
            int const shifts[3] = {shift_of(0), shift_of(1), shift_of(2)};
            std::size_t const plane = static_cast<std::size_t>(p_.input_h) * p_.input_w;
            done = finish_linear_avx2(p_, above, below, weights, shifts, plane,
                                      static_cast<float*>(out) + row_of(n, 0, y));
        } else if (avx2_) {
            add_linear_avx2(above, below, weights[0], weights[1], count, bytes);
            return 0;
        }
#endif
        int const i = kLanes * done;
        add_linear(above + i, below + i, weights[0], weights[1], count - i, bytes + i);
        return done;
    }

    int taps_row(Rows& rows, int y) const {
        for (int j = 0; j < p_.taps_y; ++j) {
            rows.taps[j] = weighed_row(rows, source_row(y, j)).wide.data();
        }
        std::int32_t const* weights = &t_.weights_y[static_cast<std::size_t>(y) * p_.taps_y];
        auto* out = reinterpret_cast<std::uint8_t*>(rows.pixels.data());
        int const count = static_cast<int>(rows.width);
#ifdef TRT_LANE_AVX2
        if (avx2_) {
            add_taps_avx2(p_, rows.taps.data(), weights, count, out);
            return 0;
        }
#endif
        add_taps(p_, rows.taps.data(), weights, 0, count, out);
        return 0;
    }

    void weigh_pairs(std::uint8_t const* bytes, std::int16_t* out) const {
#ifdef TRT_LANE_AVX2
        if (avx2_) return weigh_linear_avx2(t_, bytes, p_.input_w, out);
#endif
        weigh_linear(t_, bytes, 0, p_.input_w, out);
    }

    void weigh_any(std::uint8_t const* bytes, std::int32_t* out) const {
#ifdef TRT_LANE_AVX2
        if (avx2_) return weigh_taps_avx2(p_, t_, bytes, out);
#endif
        weigh_taps(p_, t_, bytes, out);
    }

    // Where a channel of the network lies in a pixel's four bytes.
    int shift_of(int channel) const {
        bool const swapped = p_.rgb != (p_.pixels == Pixels::kRgb);
        return 8 * (swapped ? 2 - channel : channel);
    }

    std::size_t row_of(int n, int channel, int y) const {
        return (static_cast<std::size_t>(3 * n + channel) * p_.input_h + y) * p_.input_w;
    }

    // The pixels of a row from `begin` on.
    void write_row(std::uint32_t const* pixels, int begin, int n, int y, void* out) const {
        for (int c = 0; c < 3; ++c) {
            std::size_t const at = row_of(n, c, y);
            if (p_.output == Output::kFloat) {
                float_row(pixels, begin, c, static_cast<float*>(out) + at);
            } else if (p_.output == Output::kHalf) {
                table_row(pixels, shift_of(c), half_[c], static_cast<Half*>(out) + at);
            } else {
                table_row(pixels, shift_of(c), byte_[c], static_cast<std::int8_t*>(out) + at);
            }
        }
    }

    void float_row(std::uint32_t const* pixels, int begin, int channel, float* out) const {
        float const factor = p_.factor[channel], offset = p_.offset[channel];
        int const count = p_.input_w - begin, shift = shift_of(channel);
        pixels += begin;
        out += begin;
#ifdef TRT_LANE_AVX2
        if (avx2_) return normalise_avx2(pixels, shift, factor, offset, count, out);
#endif
        normalise(pixels, shift, factor, offset, count, out);
    }

    template <typename T>
    void table_row(std::uint32_t const* pixels, int shift, T const (&table)[256], T* out) const {
        for (int x = 0; x < p_.input_w; ++x) out[x] = table[(pixels[x] >> shift) & 255u];
    }

    PreprocessParams p_;
    HostTables t_;
    Half half_[3][256];
    std::int8_t byte_[3][256];
    bool avx2_ = false;
    bool halved_ = false;
};

}  // namespace trt_lane
