// Loops of the host that are compiled twice, for any processor and for x86 with AVX2: a body is
// LANE_LOOP, its second compilation LANE_AVX2 where TRT_LANE_AVX2 is set. The numbers are the same:
// there is no fused multiply-add in AVX2.
#pragma once

#if defined(__GNUC__)
#define LANE_LOOP inline __attribute__((always_inline))
#else
#define LANE_LOOP inline
#endif

#if defined(__x86_64__) && defined(__GNUC__) && !defined(TRT_LANE_NO_SIMD)
#define TRT_LANE_AVX2 1
#define LANE_AVX2 __attribute__((target("avx2")))
#endif

namespace trt_lane {

// Whether this processor runs what is LANE_AVX2.
inline bool has_avx2() {
#ifdef TRT_LANE_AVX2
    return __builtin_cpu_supports("avx2");
#else
    return false;
#endif
}

}  // namespace trt_lane
