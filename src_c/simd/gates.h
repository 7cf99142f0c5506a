/* The activation of gates: its value, its slope, and when it is saturated.
 *
 *   sigmoid        s(x) = 1 / (1 + exp(-x))             s' = s (1 - s)
 *   hard sigmoid   s(x) = max(0, min(1, alpha x + beta))  s' = alpha where 0 < s < 1, else 0
 *
 * Saturated, where little or no gradient passes: outside 0.1 to 0.9, or at 0 and 1.
 */
#ifndef FASTRNN_GATES_H
#define FASTRNN_GATES_H

/* Activation of the gates; `hard` is constant in every kernel: no loop over units tests it. */
struct gates {
    int hard;
    vf alpha, beta;
};

VF_INLINE vf gate(struct gates s, vf x) {
    if (!s.hard) return vf_sigmoid(x);
    return vf_max(vf_set1(0.0f), vf_min(vf_set1(1.0f), vf_fma(s.alpha, x, s.beta)));
}

/* By the activated gate; NaN stays. */
VF_INLINE vf gate_slope(struct gates s, vf y) {
    const vf zero = vf_set1(0.0f), one = vf_set1(1.0f);
    if (!s.hard) return y * (one - y);
    return vf_select(vf_lt(zero, y), vf_select(vf_lt(y, one), s.alpha, zero), y * zero);
}

/* 1 where it is, else 0. */
VF_INLINE vf gate_saturated(struct gates s, vf y) {
    const vf zero = vf_set1(0.0f), one = vf_set1(1.0f);
    if (!s.hard) return vf_outside(0.1f, 0.9f, y);
    return vf_select(vf_lt(zero, y), vf_select(vf_lt(y, one), zero, one), one);
}

#endif
