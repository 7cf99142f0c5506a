/* What activations need beside exp, sigmoid and tanh (math.h, whose rules hold here as well):
 * logarithms, products with exponentials that are too small for a float, the normal distribution.
 * Coefficients from tools/fit_activations.py.
 */
#ifndef FASTRNN_SPECIAL_H
#define FASTRNN_SPECIAL_H

#include "math.h"

#define VF_SMALLEST_NORMAL 0x1p-126f

VF_INLINE vf vf_abs(vf x) { return vf_from_bits(vf_bits(x) & INT32_MAX); }
VF_INLINE vf vf_sign_of(vf x, vf magnitude) {
    return vf_from_bits(vf_bits(magnitude) | (vf_bits(x) & INT32_MIN));
}

/* x with denormals flushed, whatever becomes of it: a selection would pass them on. */
VF_INLINE vf vf_flush(vf x) {
    const vf zero = vf_from_bits(vf_bits(x) & INT32_MIN);
    return vf_select(vf_lt(vf_abs(x), vf_set1(VF_SMALLEST_NORMAL)), zero, x);
}

/* (s, p(s^2)) -> 2 s + s^3 p */
VF_INLINE vf vf_artanh_series(vf s, vf p) {
    const vf twice = s + s;
    return vf_fma(twice * (s * s), 0.5f * p, twice);
}

/* ln x: x = 2^n m with m about 1, s = (m - 1) / (m + 1), ln m = 2 artanh s. 0 gives -inf, numbers
 * below 0 NaN. */
VF_INLINE vf vf_log(vf x) {
    const vi sqrt_half = vi_set1(0x3f3504f3); /* m goes from there to twice it */
    const vi above = vf_bits(x) - sqrt_half;
    const vf n = vf_from_bits((above >> 23) + (vf_bits(vf_set1(VF_ROUND)))) - VF_ROUND;
    const vf m = vf_from_bits((above & 0x007fffff) + sqrt_half);
    const vf s = (m - 1.0f) / (m + 1.0f), q = s * s;
    vf p = vf_set1(0x1.31e26p-2f);
    p = vf_fma(p, q, vf_set1(0x1.995ec2p-2f));
    p = vf_fma(p, q, vf_set1(0x1.55557ap-1f));
    const vf log_m = vf_artanh_series(s, p);
    const vf y = vf_fma(n, vf_set1(VF_LN2_HI), vf_fma(n, vf_set1(VF_LN2_LO), log_m));
    const vf infinite = vf_set1(__builtin_inff());
    const vf small = vf_select(vf_lt(x, vf_set1(0.0f)), vf_set1(__builtin_nanf("")), -infinite);
    const vf finite = vf_select(vf_lt(x, infinite), y, x + infinite); /* keeps a NaN */
    return vf_select(vf_lt(x, vf_set1(VF_SMALLEST_NORMAL)), small, finite);
}

/* ln(1 + u) for 0 <= u <= 1. */
VF_INLINE vf vf_log1p(vf u) {
    const vf s = u / (2.0f + u), q = s * s;
    vf p = vf_set1(0x1.1ed80ap-2f);
    p = vf_fma(p, q, vf_set1(0x1.1ebdp-2f));
    p = vf_fma(p, q, vf_set1(0x1.99d20ap-2f));
    p = vf_fma(p, q, vf_set1(0x1.555502p-1f));
    return vf_artanh_series(s, p);
}

/* f e^-a for a >= 0, a normal float wherever the product is one, though e^-a may be none: 2^n is
 * multiplied in two halves. 0 from a = 150 on, for f up to 1000. */
VF_INLINE vf vf_times_exp(vf f, vf a) {
    vf shifted;
    const vf p = vf_exp_reduced(vf_max(vf_set1(-150.0f), -a), &shifted);
    const vi n = vf_bits(shifted) - vf_bits(vf_set1(VF_ROUND)), half = n >> 1;
    const vi one = vf_bits(vf_set1(1.0f));
    return f * p * vf_from_bits((half << 23) + one) * vf_from_bits(((n - half) << 23) + one);
}

/* x / (1 + e^-v) at v = high + low, low being no more than the rounding of high: x sigmoid(v). For
 * x of v's sign that is infinite where v is; then 0 at -inf. */
VF_INLINE vf vf_gated(vf x, vf high, vf low) {
    const vf zero = vf_set1(0.0f), a = vf_abs(high);
    const vf negative = vf_max(vf_set1(-1000.0f), vf_min(zero, x));
    const vf tilt = vf_select(vf_lt(high, zero), low, -low); /* e^-|v| = e^-a (1 + tilt) */
    const vf e = vf_times_exp(vf_set1(1.0f), a), tilted = vf_fma(e, tilt, e);
    const vf below = vf_times_exp(vf_fma(negative, tilt, negative), a);
    return vf_select(vf_lt(high, zero), below, x) / (1.0f + tilted);
}

/* Phi(-a) e^(a^2 / 2) for 0 <= a <= 14.5, Phi the normal distribution. */
VF_INLINE vf vf_normal_tail(vf a) {
    const vf r = 1.0f / (a + 3.5f), q = (a - 3.5f) * r;
    vf p = vf_set1(0x1.d0422ep-14f);
    p = vf_fma(p, q, vf_set1(0x1.ba639ap-12f));
    p = vf_fma(p, q, vf_set1(-0x1.037e32p-11f));
    p = vf_fma(p, q, vf_set1(-0x1.a031aep-9f));
    p = vf_fma(p, q, vf_set1(0x1.a9886ap-8f));
    p = vf_fma(p, q, vf_set1(0x1.1d2fa4p-6f));
    p = vf_fma(p, q, vf_set1(-0x1.db5a6ep-4f));
    p = vf_fma(p, q, vf_set1(0x1.42fec8p-2f));
    p = vf_fma(p, q, vf_set1(-0x1.21915p-1f));
    p = vf_fma(p, q, vf_set1(0x1.7d241ap-1f));
    return p * r;
}

#endif
