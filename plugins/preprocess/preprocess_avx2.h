// Pre-processing on a CPU, the loops over a row for x86 processors with AVX2: the same numbers.
#pragma once

#include "preprocess/preprocess_rows.h"

#ifdef TRT_LANE_AVX2
#include <immintrin.h>

namespace trt_lane {

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

}  // namespace trt_lane

#endif
