/* AVX2 with FMA: 8 lanes, 16 registers. */
#if defined(__x86_64__)

#include <immintrin.h>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC target("avx2,fma")
#endif

#define FR_ISA_AVX2
#define FR_ISA avx2
#define FR_LANES 8
#define FR_ACCUMULATORS 12 /* + 2 weights + 1 broadcast = 15 of 16 */

#include "../simd/kernels.inc"

#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
