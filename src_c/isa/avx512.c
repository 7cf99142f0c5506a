/* AVX-512F: 16 lanes, 32 registers. */
#if defined(__x86_64__)

#include <immintrin.h>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f"))), apply_to = function)
#else
#pragma GCC target("avx512f")
#endif

#define FR_ISA_AVX512
#define FR_ISA avx512
#define FR_LANES 16
#define FR_ACCUMULATORS 24 /* + 4 weights + 1 broadcast = 29 of 32 */

#include "../simd/kernels.inc"

#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
