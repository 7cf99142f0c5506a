/* Any CPU without fused multiply-add that we know of (plain SSE2 on x86-64): correct, not fast. */
#if !defined(__aarch64__)

#define FR_ISA_BASE
#define FR_ISA base
#define FR_LANES 4
#define FR_ACCUMULATORS 12 /* + 2 weights + 1 broadcast = 15 of 16 */

#include "../simd/kernels.inc"

#endif
