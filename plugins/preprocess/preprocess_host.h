// Pre-processing on a CPU: row by row, each source row weighed along x once, with vector units.
//
// A row between the passes has four numbers per pixel, the fourth unused: a pixel is then one load.
#pragma once

#include <vector>

#include "preprocess/preprocess.h"

#if defined(__x86_64__) && defined(__GNUC__) && !defined(TRT_LANE_NO_SIMD)
#define TRT_LANE_AVX2 1
#include <immintrin.h>
#endif

namespace trt_lane {

// Loops that the compiler turns into vector code; inlined into a function for each vector unit.
#if defined(__GNUC__)
#define LANE_LOOP inline __attribute__((always_inline))
#else
#define LANE_LOOP inline
#endif

constexpr int kLanes = 4;  // numbers of a pixel
constexpr int kPad = 16;   // bytes behind a row that a vector load may read

struct HostTables {
    std::vector<std::int32_t> first_x, weights_x, first_y, weights_y;
    std::vector<std::int32_t> offset_x;  // bytes, for the linear filter
    std::vector<std::int16_t> pairs;     // (w0, w1) three times and (0, 0), for the linear filter
};

// ---- along x -----------------------------------------------------------------------------------

LANE_LOOP void weigh_linear_pixel(std::uint8_t const* row, std::int16_t const* pair, int first,
                                  std::int16_t* out) {
    std::uint8_t const* at = row + 3 * first;
    for (int c = 0; c < 3; ++c) {
        out[c] = static_cast<std::int16_t>((at[c] * pair[0] + at[c + 3] * pair[1]) >> 4);
    }
    out[3] = 0;
}

// `row` has kPad readable bytes behind it.
inline void weigh_linear(HostTables const& t, std::uint8_t const* row, int begin, int end,
                         std::int16_t* out) {
    for (int x = begin; x < end; ++x) {
        weigh_linear_pixel(row, &t.pairs[8 * x], t.first_x[x], out + kLanes * x);
    }
}

// Cubic and antialiased: any number of taps.
inline void weigh_taps_pixel(PreprocessParams const& p, HostTables const& t,
                             std::uint8_t const* row, int x, std::int32_t* out) {
    std::int32_t const* weights = &t.weights_x[static_cast<std::size_t>(x) * p.taps_x];
    std::int32_t sum[kLanes] = {};
    for (int k = 0; k < p.taps_x; ++k) {
        std::uint8_t const* at = row + 3 * clamp_int(t.first_x[x] + k, 0, p.frame_w - 1);
        for (int c = 0; c < kLanes; ++c) sum[c] += weights[k] * at[c];
    }
    for (int c = 0; c < kLanes; ++c) out[kLanes * x + c] = between_passes(p.resampling, sum[c]);
}

inline void weigh_taps(PreprocessParams const& p, HostTables const& t, std::uint8_t const* row,
                       std::int32_t* out) {
    for (int x = 0; x < p.input_w; ++x) weigh_taps_pixel(p, t, row, x, out);
}

// ---- along y, and to the network's numbers -----------------------------------------------------

LANE_LOOP void add_linear(std::int16_t const* above, std::int16_t const* below, int weight_above,
                          int weight_below, int count, std::uint8_t* out) {
    for (int i = 0; i < count; ++i) {
        auto const a = static_cast<std::int16_t>((weight_above * above[i]) >> 16);
        auto const b = static_cast<std::int16_t>((weight_below * below[i]) >> 16);
        out[i] = static_cast<std::uint8_t>(static_cast<std::int16_t>(a + b + 2) >> 2);
    }
}

inline void add_taps(PreprocessParams const& p, std::int32_t const* const* rows,
                     std::int32_t const* weights, int begin, int end, std::uint8_t* out) {
    for (int i = begin; i < end; ++i) {
        std::int32_t sum = 0;
        for (int j = 0; j < p.taps_y; ++j) sum += weights[j] * rows[j][i];
        out[i] = static_cast<std::uint8_t>(rounded_pixel(p.resampling, sum));
    }
}

// One channel of a row of pixels of four bytes.
LANE_LOOP void normalise(std::uint32_t const* pixels, int shift, float factor, float offset,
                         int width, float* out) {
    for (int x = 0; x < width; ++x) {
        auto const value = static_cast<std::int32_t>((pixels[x] >> shift) & 255u);
        out[x] = static_cast<float>(value) * factor + offset;
    }
}

// ---- the same with AVX2 ------------------------------------------------------------------------

#ifdef TRT_LANE_AVX2
#define LANE_AVX2 __attribute__((target("avx2")))

// Two pixels: b0 g0 r0 b1 g1 r1 of each, weighed.
LANE_AVX2 LANE_LOOP __m256i weigh_two(std::uint8_t const* first, std::uint8_t const* second,
                                      std::int16_t const* pairs) {
    __m128i const together = _mm_setr_epi8(0, 3, 1, 4, 2, 5, -1, -1, 8, 11, 9, 12, 10, 13, -1, -1);
    __m128i const low = _mm_loadl_epi64(reinterpret_cast<__m128i const*>(first));
    __m128i const high = _mm_loadl_epi64(reinterpret_cast<__m128i const*>(second));
    __m128i const bytes = _mm_shuffle_epi8(_mm_unpacklo_epi64(low, high), together);
    __m256i const weights = _mm256_loadu_si256(reinterpret_cast<__m256i const*>(pairs));
    return _mm256_srai_epi32(_mm256_madd_epi16(_mm256_cvtepu8_epi16(bytes), weights), 4);
}

LANE_AVX2 inline void weigh_linear_avx2(HostTables const& t, std::uint8_t const* row, int width,
                                        std::int16_t* out) {
    std::int32_t const* offset = t.offset_x.data();
    std::int16_t const* pairs = t.pairs.data();
    int x = 0;
    for (; x + 4 <= width; x += 4) {
        __m256i const a = weigh_two(row + offset[x], row + offset[x + 1], pairs + 8 * x);
        __m256i const b = weigh_two(row + offset[x + 2], row + offset[x + 3], pairs + 8 * x + 16);
        // Pixels 0, 2, 1, 3 after packing.
        __m256i const four = _mm256_permute4x64_epi64(_mm256_packs_epi32(a, b), 0xd8);
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + kLanes * x), four);
    }
    weigh_linear(t, row, x, width, out);
}

// 16 numbers of two rows, weighed and rounded; OpenCV's (w * s >> 16) is one instruction.
LANE_AVX2 LANE_LOOP __m256i add_sixteen(std::int16_t const* above, std::int16_t const* below,
                                        __m256i weight_above, __m256i weight_below) {
    __m256i const a = _mm256_loadu_si256(reinterpret_cast<__m256i const*>(above));
    __m256i const b = _mm256_loadu_si256(reinterpret_cast<__m256i const*>(below));
    __m256i const sum =
        _mm256_add_epi16(_mm256_mulhi_epi16(a, weight_above), _mm256_mulhi_epi16(b, weight_below));
    return _mm256_srai_epi16(_mm256_add_epi16(sum, _mm256_set1_epi16(2)), 2);
}

LANE_AVX2 inline void add_linear_avx2(std::int16_t const* above, std::int16_t const* below,
                                      int weight_above, int weight_below, int count,
                                      std::uint8_t* out) {
    __m256i const wa = _mm256_set1_epi16(static_cast<std::int16_t>(weight_above));
    __m256i const wb = _mm256_set1_epi16(static_cast<std::int16_t>(weight_below));
    int i = 0;
    for (; i + 32 <= count; i += 32) {
        __m256i const packed =
            _mm256_packus_epi16(add_sixteen(above + i, below + i, wa, wb),
                                add_sixteen(above + i + 16, below + i + 16, wa, wb));
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + i),
                            _mm256_permute4x64_epi64(packed, 0xd8));
    }
    add_linear(above + i, below + i, weight_above, weight_below, count - i, out + i);
}

LANE_AVX2 LANE_LOOP void normalise_eight(__m256i pixels, int shift, float factor, float offset,
                                         float* out) {
    __m256i const bytes =
        _mm256_and_si256(_mm256_srli_epi32(pixels, shift), _mm256_set1_epi32(255));
    __m256 const values = _mm256_mul_ps(_mm256_cvtepi32_ps(bytes), _mm256_set1_ps(factor));
    _mm256_storeu_ps(out, _mm256_add_ps(values, _mm256_set1_ps(offset)));
}

// The sum along y and the normalisation of all channels in one go: planes of `plane` floats.
LANE_AVX2 inline int finish_linear_avx2(PreprocessParams const& p, std::int16_t const* above,
                                        std::int16_t const* below, std::int32_t const* weights,
                                        int const* shifts, std::size_t plane, float* out) {
    __m256i const wa = _mm256_set1_epi16(static_cast<std::int16_t>(weights[0]));
    __m256i const wb = _mm256_set1_epi16(static_cast<std::int16_t>(weights[1]));
    int x = 0;
    for (; x + 8 <= p.input_w; x += 8) {
        int const i = kLanes * x;
        __m256i const packed =
            _mm256_packus_epi16(add_sixteen(above + i, below + i, wa, wb),
                                add_sixteen(above + i + 16, below + i + 16, wa, wb));
        __m256i const pixels = _mm256_permute4x64_epi64(packed, 0xd8);
        for (int c = 0; c < 3; ++c) {
            normalise_eight(pixels, shifts[c], p.factor[c], p.offset[c], out + c * plane + x);
        }
    }
    return x;
}

// Sums of two pixels side by side, of four pairs: 16 bits per channel. A pair has six bytes; 16 of
// them are read for two.
LANE_AVX2 LANE_LOOP __m256i pair_sums(std::uint8_t const* row) {
    __m256i const together = _mm256_broadcastsi128_si256(
        _mm_setr_epi8(0, 3, 1, 4, 2, 5, -1, -1, 6, 9, 7, 10, 8, 11, -1, -1));
    __m128i const low = _mm_loadu_si128(reinterpret_cast<__m128i const*>(row));
    __m128i const high = _mm_loadu_si128(reinterpret_cast<__m128i const*>(row + 12));
    __m256i const bytes = _mm256_inserti128_si256(_mm256_castsi128_si256(low), high, 1);
    return _mm256_maddubs_epi16(_mm256_shuffle_epi8(bytes, together), _mm256_set1_epi8(1));
}

// The linear filter at half the size: all four weights are one quarter, and OpenCV's roundings come
// to (a + b + c + d + 2) / 4. Gives the number of pixels that are finished.
LANE_AVX2 inline int halve_avx2(PreprocessParams const& p, std::uint8_t const* above,
                                std::uint8_t const* below, int const* shifts, std::size_t plane,
                                float* out) {
    __m256i const two = _mm256_set1_epi16(2);
    int x = 0;
    for (; x + 8 <= p.input_w; x += 8) {
        std::uint8_t const *a = above + 6 * x, *b = below + 6 * x;
        __m256i const first = _mm256_add_epi16(pair_sums(a), pair_sums(b));
        __m256i const second = _mm256_add_epi16(pair_sums(a + 24), pair_sums(b + 24));
        __m256i const packed =
            _mm256_packus_epi16(_mm256_srli_epi16(_mm256_add_epi16(first, two), 2),
                                _mm256_srli_epi16(_mm256_add_epi16(second, two), 2));
        __m256i const pixels = _mm256_permute4x64_epi64(packed, 0xd8);
        for (int c = 0; c < 3; ++c) {
            normalise_eight(pixels, shifts[c], p.factor[c], p.offset[c], out + c * plane + x);
        }
    }
    return x;
}

LANE_AVX2 inline void normalise_avx2(std::uint32_t const* pixels, int shift, float factor,
                                     float offset, int width, float* out) {
    int x = 0;
    for (; x + 8 <= width; x += 8) {
        __m256i const eight = _mm256_loadu_si256(reinterpret_cast<__m256i const*>(pixels + x));
        normalise_eight(eight, shift, factor, offset, out + x);
    }
    normalise(pixels + x, shift, factor, offset, width - x, out + x);
}

// A pixel whose taps all lie in the row: its four numbers at once.
LANE_AVX2 LANE_LOOP __m128i weigh_inside(std::uint8_t const* at, std::int32_t const* weights,
                                         int taps) {
    __m128i sum = _mm_setzero_si128();
    for (int k = 0; k < taps; ++k) {
        std::int32_t bytes;
        std::memcpy(&bytes, at + 3 * k, sizeof bytes);
        __m128i const pixel = _mm_cvtepu8_epi32(_mm_cvtsi32_si128(bytes));
        sum = _mm_add_epi32(sum, _mm_mullo_epi32(pixel, _mm_set1_epi32(weights[k])));
    }
    return sum;
}

LANE_AVX2 inline void weigh_taps_avx2(PreprocessParams const& p, HostTables const& t,
                                      std::uint8_t const* row, std::int32_t* out) {
    bool const pillow = p.resampling == Resampling::kAntialiased;
    __m128i const half = _mm_set1_epi32(1 << (kPillowBits - 1));
    for (int x = 0; x < p.input_w; ++x) {
        int const first = t.first_x[x];
        if (first < 0 || first + p.taps_x > p.frame_w) {
            weigh_taps_pixel(p, t, row, x, out);
            continue;
        }
        std::int32_t const* weights = &t.weights_x[static_cast<std::size_t>(x) * p.taps_x];
        __m128i sum = weigh_inside(row + 3 * first, weights, p.taps_x);
        if (pillow) {  // never below 0 or above 255: no weight is negative, and their sum is one
            sum = _mm_srai_epi32(_mm_add_epi32(sum, half), kPillowBits);
            sum = _mm_min_epi32(sum, _mm_set1_epi32(255));
        }
        _mm_storeu_si128(reinterpret_cast<__m128i*>(out + kLanes * x), sum);
    }
}

LANE_AVX2 inline void add_taps_avx2(PreprocessParams const& p, std::int32_t const* const* rows,
                                    std::int32_t const* weights, int count, std::uint8_t* out) {
    __m256i const half = _mm256_set1_epi32(1 << 21);
    int i = 0;
    for (; i + 8 <= count; i += 8) {
        __m256i sum = half;
        for (int j = 0; j < p.taps_y; ++j) {
            __m256i const eight = _mm256_loadu_si256(reinterpret_cast<__m256i const*>(rows[j] + i));
            sum = _mm256_add_epi32(sum, _mm256_mullo_epi32(eight, _mm256_set1_epi32(weights[j])));
        }
        sum = _mm256_srai_epi32(sum, 22);
        __m128i const words =
            _mm_packs_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256(sum, 1));
        _mm_storel_epi64(reinterpret_cast<__m128i*>(out + i), _mm_packus_epi16(words, words));
    }
    add_taps(p, rows, weights, i, count, out);
}
#endif

// ---- a frame -----------------------------------------------------------------------------------

class HostPreprocess {
public:
    explicit HostPreprocess(PreprocessParams const& p) : p_(p) {
#ifdef TRT_LANE_AVX2
        avx2_ = __builtin_cpu_supports("avx2");
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
