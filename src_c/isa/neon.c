/* AArch64 NEON, part of every AArch64 CPU: 4 lanes, 32 registers. */
#if defined(__aarch64__)

#if !defined(__clang__)
#pragma GCC optimize("no-schedule-insns") /* scheduling before allocation spills sums of a tile */
#endif

#define FR_ISA_NEON
#define FR_ISA neon
#define FR_LANES 4
#define FR_ACCUMULATORS 24 /* + 4 weights + 1 broadcast = 29 of 32 */

#include "../simd/kernels.inc"

#endif
