/* Functions of activations beside exp, sigmoid and tanh (math.h, whose rules hold here as well):
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
    const vi above = vi_subtract(vf_bits(x), sqrt_half);
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

/* ln(1 + u) for 0 <= u <= 1; u itself where u / 2 may be no normal float. */
VF_INLINE vf vf_log1p(vf u) {
    const vf s = u / (2.0f + u), q = s * s;
    vf p = vf_set1(0x1.1ed80ap-2f);
    p = vf_fma(p, q, vf_set1(0x1.1ebdp-2f));
    p = vf_fma(p, q, vf_set1(0x1.99d20ap-2f));
    p = vf_fma(p, q, vf_set1(0x1.555502p-1f));
    return vf_select(vf_lt(u, vf_set1(0x1p-60f)), u, vf_artanh_series(s, p));
}

/* e^x - 1 for x <= 0; x itself where x / 2 may be no normal float. */
VF_INLINE vf vf_expm1(vf x) {
    return vf_select(vf_lt(vf_set1(-0x1p-60f), x), x, -vf_one_minus_exp(-0.5f * x));
}

/* sigmoid(x), and with the same relative accuracy 1 - sigmoid(x). */
VF_INLINE vf vf_sigmoid_and_rest(vf x, vf *rest) {
    const vf e = vf_exp(-vf_abs(x)), large = 1.0f / (1.0f + e), small = e * large;
    const vm negative = vf_lt(x, vf_set1(0.0f));
    *rest = vf_select(negative, large, small);
    return vf_select(negative, small, large);
}

/* f e^-(a + low) for a >= 0, low being no more than a's rounding: a normal float wherever the
 * product is one, though e^-a may be none; 2^n is multiplied in two halves. 0 from a = 150 on, for
 * f up to 1000. */
VF_INLINE vf vf_times_exp(vf f, vf a, vf low) {
    vf shifted;
    const vf r = vf_exp_reduced(vf_max(vf_set1(-150.0f), -a), &shifted);
    const vi n = vi_subtract(vf_bits(shifted), vf_bits(vf_set1(VF_ROUND))), half = n >> 1;
    const vi one = vf_bits(vf_set1(1.0f));
    const vf first = vf_from_bits(vi_add(half << 23, one));
    return f * vf_exp_series(r - low) * first * vf_from_bits(vi_add((n - half) << 23, one));
}

/* x / (1 + e^-v) at v = high + low: x sigmoid(v). For x of v's sign that is infinite where v is;
 * then 0 at -inf. */
VF_INLINE vf vf_gated(vf x, vf high, vf low) {
    const vf zero = vf_set1(0.0f), a = vf_abs(high);
    const vf negative = vf_max(vf_set1(-1000.0f), vf_min(zero, x));
    const vf of_a = vf_select(vf_lt(high, zero), -low, low);
    const vf below = vf_times_exp(negative, a, of_a);
    const vf e = vf_times_exp(vf_set1(1.0f), a, of_a);
    return vf_select(vf_lt(high, zero), below, x) / (1.0f + e);
}

/* (Phi(x) - 1/2) / x for |x| <= 1/2, of x^2. */
VF_INLINE vf vf_normal_centre(vf square) {
    vf p = vf_set1(-0x1.2884cp-10f);
    p = vf_fma(p, square, vf_set1(0x1.46871ap-7f));
    p = vf_fma(p, square, vf_set1(-0x1.1057c2p-4f));
    return vf_fma(p, square, vf_set1(0x1.988454p-2f));
}

/* Phi(-a) e^(a^2 / 2) for 0 <= a <= 14.5, Phi the normal distribution. */
VF_INLINE vf vf_normal_tail(vf a) {
    const vf sum = a + 2.5f, low = a - (sum - 2.5f), inverse = 1.0f / sum;
    const vf r = vf_fma(inverse, vf_fma(-sum, inverse, vf_set1(1.0f)) - inverse * low, inverse);
    const vf q = (a - 2.5f) * r;
    vf p = vf_set1(-0x1.856524p-16f);
    p = vf_fma(p, q, vf_set1(-0x1.8e13c2p-13f));
    p = vf_fma(p, q, vf_set1(-0x1.2fdb84p-12f));
    p = vf_fma(p, q, vf_set1(0x1.7b0e7cp-11f));
    p = vf_fma(p, q, vf_set1(0x1.4a07eap-9f));
    p = vf_fma(p, q, vf_set1(-0x1.a7c138p-10f));
    p = vf_fma(p, q, vf_set1(-0x1.0c76dp-6f));
    p = vf_fma(p, q, vf_set1(0x1.2eb82p-7f));
    p = vf_fma(p, q, vf_set1(0x1.0e4f3p-3f));
    p = vf_fma(p, q, vf_set1(-0x1.bc19c8p-2f));
    p = vf_fma(p, q, vf_set1(0x1.69cee6p-1f));
    return p * r;
}

#endif
