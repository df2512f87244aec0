// What host and device share: function qualifiers, half precision, an exp that is the same on both.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#ifdef __CUDACC__
#define LANE_HD __host__ __device__ __forceinline__
#else
#define LANE_HD inline
#endif

namespace trt_lane {

// An IEEE half as it lies in memory; the same type for g++, nvcc and the kernels run on a CPU.
struct Half {
    std::uint16_t bits;
};

LANE_HD std::uint32_t float_bits(float value) {
    std::uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

LANE_HD float float_from_bits(std::uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

LANE_HD bool finite(float value) { return (float_bits(value) & 0x7f800000u) != 0x7f800000u; }

LANE_HD bool finite(double value) {
    std::uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    return (bits & 0x7ff0000000000000u) != 0x7ff0000000000000u;
}

LANE_HD bool finite(Half value) { return (value.bits & 0x7c00u) != 0x7c00u; }

LANE_HD float nan_float() { return float_from_bits(0x7fc00000u); }

LANE_HD float to_float(float value) { return value; }

LANE_HD float to_float(Half value) {
#ifdef __CUDA_ARCH__
    float result;
    asm("cvt.f32.f16 %0, %1;" : "=f"(result) : "h"(value.bits));
    return result;
#else
    std::uint32_t const sign = (value.bits & 0x8000u) << 16;
    std::uint32_t const exponent = (value.bits >> 10) & 0x1fu;
    std::uint32_t const fraction = value.bits & 0x3ffu;
    if (exponent == 0) {  // zero and subnormals: fraction * 2^-24, exact in float
        float const magnitude = static_cast<float>(fraction) * 5.9604644775390625e-8f;
        return float_from_bits(sign | float_bits(magnitude));
    }
    std::uint32_t const wide = exponent == 31 ? 255u : exponent + 112u;
    return float_from_bits(sign | (wide << 23) | (fraction << 13));
#endif
}

// To the nearest half, ties to even, as numpy and cvt.rn do.
LANE_HD Half to_half(float value) {
    Half result;
#ifdef __CUDA_ARCH__
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(result.bits) : "f"(value));
#else
    std::uint32_t const bits = float_bits(value);
    std::uint32_t const magnitude = bits & 0x7fffffffu;
    std::uint32_t half;
    if (magnitude > 0x7f800000u) {
        half = 0x7e00u;
    } else if (magnitude >= 0x477ff000u) {  // from 65520 on, halfway past the largest half
        half = 0x7c00u;
    } else if (magnitude < 0x38800000u) {
        // Adding 0.5 leaves the value in steps of 2^-24, rounded by the sum itself.
        half = float_bits(float_from_bits(magnitude) + 0.5f) - 0x3f000000u;
    } else {
        half = (magnitude - 0x38000000u + 0xfffu + ((magnitude >> 13) & 1u)) >> 13;
    }
    result.bits = static_cast<std::uint16_t>(half | ((bits >> 16) & 0x8000u));
#endif
    return result;
}

// exp of a float with the same bits on every device, within 1 unit in the last place; so a lane
// that stands on a threshold falls to the same side everywhere. NaN gives NaN, overflow infinity.
// Sums and products must not be contracted: -ffp-contract=off, --fmad=false.
LANE_HD float exp32(float x) {
    // exp(x) = 2^n * exp(r), |r| <= ln 2 / 2; ln 2 in two parts so that n * high is exact.
    float const clamped = x < -104.0f ? -104.0f : (x > 89.0f ? 89.0f : x);
    // 1.5 * 2^23 pushes the fraction out of the float: rounds to nearest, and its low bits are n.
    float const shifted = clamped * 1.44269504088896341f + 12582912.0f;
    float const n = shifted - 12582912.0f;
    float const r = (clamped - n * 0.693359375f) - n * -2.12194440e-4f;
    float p = 1.9875691500e-4f;  // minimax coefficients of Cephes expf
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = (p * r * r + r) + 1.0f;
    // Two powers of two, each of a normal exponent: the product may be subnormal or infinite.
    std::int32_t const whole = static_cast<std::int32_t>(float_bits(shifted) & 0x1ffu);
    std::int32_t const power = whole >= 256 ? whole - 512 : whole;
    std::int32_t const first = power >> 1;
    float const low = float_from_bits(static_cast<std::uint32_t>(first + 127) << 23);
    float const high = float_from_bits(static_cast<std::uint32_t>(power - first + 127) << 23);
    float const result = p * low * high;
    return x != x ? x : result;
}

// 1 / (1 + exp(-x)) in the order of operations of the numpy decoders.
LANE_HD float sigmoid32(float x) { return 1.0f / (1.0f + exp32(-x)); }

}  // namespace trt_lane
