/* exp, sigmoid and tanh on `vf`: no branch, no table, no libm, one IEEE division at most.
 *
 * Every operation is correctly rounded and spelled out, so the bits are the same on every ISA with
 * a fused multiply-add. Largest errors over all floats: exp 0.90 ulp, sigmoid 1.96, tanh 2.57.
 *
 * All three take n * ln 2 out of the argument and leave 2^n p(r) with a short polynomial p: minimax
 * fits of the relative error, from tools/fit_activations.py, which also searched the roundings.
 *
 * Write bounds first in vf_min and vf_max: they keep a NaN in their second operand.
 * Do not add this directory to an include path: <math.h> would be this file.
 */
#ifndef FASTRNN_MATH_H
#define FASTRNN_MATH_H

#include "vf.h"

#define VF_LOG2E 0x1.715476p+0f

/* ln 2 = HI + LO; HI has 15 bits, so that n * HI is exact even without a fused multiply-add. */
#define VF_LN2_HI 0x1.62e4p-1f
#define VF_LN2_LO 0x1.7f7d1cp-20f

/* Adding 1.5 * 2^23 rounds to an integer n and leaves n in the low bits of the sum. */
#define VF_ROUND 0x1.8p+23f

/* With 127 more, the low 8 bits are the exponent field of 2^n, for -127 < n < 128; n = -127 gives
 * 0 and n = 128 gives inf. */
#define VF_ROUND_BIASED (VF_ROUND + 127.0f)
VF_INLINE vf vf_power_of_two(vf shifted) { return vf_from_bits(vf_bits(shifted) << 23); }

/* r, |r| <= ln2 / 2, where e^x = 2^n e^r and `shifted` = n + VF_ROUND. */
VF_INLINE vf vf_exp_reduced(vf x, vf *shifted) {
    *shifted = vf_fma(x, vf_set1(VF_LOG2E), vf_set1(VF_ROUND));
    const vf n = *shifted - VF_ROUND;
    return vf_fma(n, vf_set1(-VF_LN2_LO), vf_fma(n, vf_set1(-VF_LN2_HI), x));
}

/* e^r by a polynomial of degree 6, within 3.1e-9. */
VF_INLINE vf vf_exp_series(vf r) {
    vf p = vf_set1(0x1.6a2424p-10f);
    p = vf_fma(p, r, vf_set1(0x1.1239f4p-7f));
    p = vf_fma(p, r, vf_set1(0x1.5558f2p-5f));
    p = vf_fma(p, r, vf_set1(0x1.555492p-3f));
    p = vf_fma(p, r, vf_set1(0x1.fffffcp-2f));
    p = vf_fma(p, r, vf_set1(1.0f));
    return vf_fma(p, r, vf_set1(1.0f));
}

/* a + b and a - b modulo 2^32: sums of bits may be nonsense where others are selected after. */
typedef uint32_t vu __attribute__((vector_size(4 * FR_LANES)));
VF_INLINE vi vi_add(vi a, vi b) { return (vi)((vu)a + (vu)b); }
VF_INLINE vi vi_subtract(vi a, vi b) { return (vi)((vu)a - (vu)b); }

/* e^x; 0 where e^x is below the smallest normal float, whatever the mode of the CPU. */
VF_INLINE vf vf_exp(vf x) {
    vf shifted;
    const vf p = vf_exp_series(vf_exp_reduced(x, &shifted));

    /* n = 128 does not fit a float, but p 2^128 with p < 1 does: add n to the exponent of p.
     * Outside the limits that is nonsense, and replaced; x + inf keeps a NaN. */
    const vf y = vf_from_bits(vi_add(vf_bits(p), vf_bits(shifted) << 23));
    const vf high = vf_select(vf_lt(x, vf_set1(0x1.62e43p+6f)), y, x + __builtin_inff());
    return vf_select(vf_lt(x, vf_set1(-0x1.5d589ep+6f)), vf_set1(0.0f), high);
}

/* 1 / (1 + e^-x) = w / (w + 2^n p(r)), n = round(-x / ln2), p ~ w e^-r of degree 6 on
 * |r| <= ln2 / 2, within 3.1e-9. The small end stays accurate because e^-x is large there.
 *
 * w = 1 would be natural, but 4/3 loses fewer ulp: it moves results and denominators just
 * above a power of two, where an ulp is worth least and a rounding costs most, away from each
 * other (2.44 ulp otherwise).
 *
 * Below -87.4 the result is denormal (or flushed), from -88.4 on n = 128 and it is 0. */
VF_INLINE vf vf_sigmoid(vf x) {
    const vf w = vf_set1(0x1.5645a2p+0f);
    const vf z = vf_max(vf_set1(-88.75f), vf_min(vf_set1(80.0f), x));
    const vf shifted = vf_fma(z, vf_set1(-VF_LOG2E), vf_set1(VF_ROUND_BIASED));
    const vf n = shifted - VF_ROUND_BIASED;
    const vf r = vf_fma(n, vf_set1(VF_LN2_LO), vf_fma(n, vf_set1(VF_LN2_HI), z));
    vf p = vf_set1(0x1.e42ec8p-10f);
    p = vf_fma(p, r, vf_set1(-0x1.6ea404p-7f));
    p = vf_fma(p, r, vf_set1(0x1.c861acp-5f));
    p = vf_fma(p, r, vf_set1(-0x1.c85bd2p-3f));
    p = vf_fma(p, r, vf_set1(0x1.5645ap-1f));
    p = vf_fma(p, r, -w);
    p = vf_fma(p, r, w);
    return w / vf_fma(vf_power_of_two(shifted), p, w);
}

/* m = 1 - e^-2a for a >= 0: (1 - 2^n) + 2^n r q(r), where n = round(-2a / ln2),
 * q ~ (1 - e^-2r) / r of degree 5 on |r| <= ln2 / 4, within 1.3e-8. a is limited to 10: m = 1 from
 * a = 9.02 on. n = 0 leaves m = a q(a): no cancellation. */
VF_INLINE vf vf_one_minus_exp(vf a) {
    a = vf_min(vf_set1(10.0f), a);
    const vf shifted = vf_fma(a, vf_set1(-2.0f * VF_LOG2E), vf_set1(VF_ROUND_BIASED));
    const vf n = shifted - VF_ROUND_BIASED;
    const vf r = vf_fma(n, vf_set1(0x1.62e43p-2f), a); /* ln2 / 2: its rounding fades with 2^n */
    vf q = vf_set1(-0x1.6bec0cp-4f);
    q = vf_fma(q, r, vf_set1(0x1.122788p-2f));
    q = vf_fma(q, r, vf_set1(-0x1.555674p-1f));
    q = vf_fma(q, r, vf_set1(0x1.5554bp+0f));
    q = vf_fma(q, r, vf_set1(-0x1.fffffep+0f));
    q = vf_fma(q, r, vf_set1(2.0f));
    const vf scale = vf_power_of_two(shifted);
    return vf_fma(scale * r, q, 1.0f - scale); /* scale * r is exact */
}

/* With a = |x| and m = 1 - e^-2a: m / (2 - m); tanh(x) = x exactly for tiny x, and m <= 1 <= 2 - m
 * bounds the result by 1. (A rational x P(x^2) / Q(x^2) has four operations less, but its roundings
 * alone reach 4 ulp near saturation, where it also exceeds 1.) */
VF_INLINE vf vf_tanh(vf x) {
    const vi sign = vf_bits(x) & INT32_MIN;
    const vf m = vf_one_minus_exp(vf_from_bits(vf_bits(x) ^ sign));
    return vf_from_bits(vf_bits(m / (2.0f - m)) | sign);
}

#endif
