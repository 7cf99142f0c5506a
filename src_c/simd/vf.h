/* The vector type `vf` (FR_LANES floats) and the few operations that C lacks.
 *
 * Arithmetic uses the compilers' own operators on vector types; what stands here is only what
 * they cannot say: a fused multiply-add that is always fused, a broadcast, unaligned loads and
 * stores, and comparison with selection. Every operation gives the same bits on AVX2, AVX-512
 * and NEON: IEEE single precision, one rounding, no approximate instruction.
 *
 * A stub in isa/ defines FR_LANES and one of FR_ISA_{BASE,AVX2,AVX512,NEON}, then includes this.
 *
 *   vf  FR_LANES floats      vi  FR_LANES 32-bit integers      vm  the result of a comparison
 */
#ifndef FASTRNN_VF_H
#define FASTRNN_VF_H

#if defined(__FAST_MATH__)
#error \
    "fastrnn must not be compiled with -ffast-math: results would lose their bits, NaN and infinity"
#endif

#include <stdint.h>
#include <string.h>
#if defined(FR_ISA_AVX2) || defined(FR_ISA_AVX512)
#include <immintrin.h>
#elif defined(FR_ISA_NEON)
#include <arm_neon.h>
#endif

typedef float vf __attribute__((vector_size(4 * FR_LANES)));
typedef int32_t vi __attribute__((vector_size(4 * FR_LANES)));
typedef float vf_unaligned __attribute__((vector_size(4 * FR_LANES), aligned(4), may_alias));

#define VF_INLINE static inline __attribute__((always_inline))
#define FR_NOINLINE __attribute__((noinline))

/* Before a loop over registers: without it the sums of a tile live in memory, 3 times slower. */
#if defined(__clang__)
#define FR_UNROLL _Pragma("clang loop unroll(full)")
#else
#define FR_UNROLL _Pragma("GCC unroll 24")
#endif

_Static_assert(sizeof(vf) == 4 * FR_LANES, "the compiler does not support this vector size");

VF_INLINE vf vf_load(const float *p) { return *(const vf_unaligned *)p; }
VF_INLINE void vf_store(float *p, vf v) { *(vf_unaligned *)p = v; }

/* The bits of a float vector as integers and back; no conversion. */
VF_INLINE vi vf_bits(vf v) { return (vi)v; }
VF_INLINE vf vf_from_bits(vi v) { return (vf)v; }

#if defined(FR_ISA_AVX512)

typedef __mmask16 vm;
VF_INLINE vf vf_set1(float x) { return (vf)_mm512_set1_ps(x); }
VF_INLINE vf vf_fma(vf a, vf b, vf c) {
    return (vf)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
}
VF_INLINE vm vf_lt(vf a, vf b) { return _mm512_cmp_ps_mask((__m512)a, (__m512)b, _CMP_LT_OQ); }
VF_INLINE vf vf_select(vm m, vf a, vf b) {
    return (vf)_mm512_mask_blend_ps(m, (__m512)b, (__m512)a);
}

#elif defined(FR_ISA_AVX2)

typedef vi vm;
VF_INLINE vf vf_set1(float x) { return (vf)_mm256_set1_ps(x); }
VF_INLINE vf vf_fma(vf a, vf b, vf c) {
    return (vf)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
}
VF_INLINE vm vf_lt(vf a, vf b) { return (vm)_mm256_cmp_ps((__m256)a, (__m256)b, _CMP_LT_OQ); }
VF_INLINE vf vf_select(vm m, vf a, vf b) {
    return (vf)_mm256_blendv_ps((__m256)b, (__m256)a, (__m256)m);
}

#elif defined(FR_ISA_NEON)

typedef vi vm;
VF_INLINE vf vf_set1(float x) { return (vf)vdupq_n_f32(x); }
VF_INLINE vf vf_fma(vf a, vf b, vf c) {
    return (vf)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
}
VF_INLINE vm vf_lt(vf a, vf b) { return a < b; }
VF_INLINE vf vf_select(vm m, vf a, vf b) { return (vf)((m & (vi)a) | (~m & (vi)b)); }

#elif defined(FR_ISA_BASE)

/* Correct everywhere, but rounds twice in vf_fma: outside the promise of identical bits. */
typedef vi vm;
VF_INLINE vf vf_set1(float x) { return (vf){x, x, x, x}; }
VF_INLINE vf vf_fma(vf a, vf b, vf c) { return a * b + c; }
VF_INLINE vm vf_lt(vf a, vf b) { return a < b; }
VF_INLINE vf vf_select(vm m, vf a, vf b) { return (vf)((m & (vi)a) | (~m & (vi)b)); }

#else
#error "define one of FR_ISA_BASE, FR_ISA_AVX2, FR_ISA_AVX512, FR_ISA_NEON before including vf.h"
#endif

VF_INLINE vi vi_set1(int32_t x) { return (vi)vf_set1(0.0f) + x; }

/* min(a, b) = a < b ? a : b, so a NaN in b survives: write the bound first, the value second. x86
 * has just this instruction, but GCC does not find it; it makes an LSTM's activations a fifth
 * faster. */
#if defined(FR_ISA_AVX512)
VF_INLINE vf vf_min(vf a, vf b) { return (vf)_mm512_min_ps((__m512)a, (__m512)b); }
VF_INLINE vf vf_max(vf a, vf b) { return (vf)_mm512_max_ps((__m512)a, (__m512)b); }
#elif defined(FR_ISA_AVX2)
VF_INLINE vf vf_min(vf a, vf b) { return (vf)_mm256_min_ps((__m256)a, (__m256)b); }
VF_INLINE vf vf_max(vf a, vf b) { return (vf)_mm256_max_ps((__m256)a, (__m256)b); }
#else
VF_INLINE vf vf_min(vf a, vf b) { return vf_select(vf_lt(a, b), a, b); }
VF_INLINE vf vf_max(vf a, vf b) { return vf_select(vf_lt(b, a), a, b); }
#endif

/* x, loaded once: GCC may repeat the load at each of two uses, and loads have a limit, too. */
VF_INLINE vf vf_keep(vf x) {
#if defined(FR_ISA_AVX512)
    __asm__("" : "+v"(x));
#elif defined(FR_ISA_AVX2)
    __asm__("" : "+x"(x));
#elif defined(FR_ISA_NEON)
    __asm__("" : "+w"(x));
#endif
    return x;
}

/* 1 where x lies below `low` or above `high`, else 0. */
VF_INLINE vf vf_outside(float low, float high, vf x) {
    const vf zero = vf_set1(0.0f), one = vf_set1(1.0f);
    return vf_select(vf_lt(x, vf_set1(low)), one, zero) +
           vf_select(vf_lt(vf_set1(high), x), one, zero);
}

/* The square root, correctly rounded. */
#if defined(FR_ISA_AVX512)
VF_INLINE vf vf_sqrt(vf x) { return (vf)_mm512_sqrt_ps((__m512)x); }
#elif defined(FR_ISA_AVX2)
VF_INLINE vf vf_sqrt(vf x) { return (vf)_mm256_sqrt_ps((__m256)x); }
#elif defined(FR_ISA_NEON)
VF_INLINE vf vf_sqrt(vf x) { return (vf)vsqrtq_f32((float32x4_t)x); }
#else
VF_INLINE vf vf_sqrt(vf x) {
    for (int i = 0; i < FR_LANES; i++) x[i] = __builtin_sqrtf(x[i]);
    return x;
}
#endif

#endif
