/* Activations, y of x, and what their backward pass makes of the gradient dy: dx = dy dy/dx, from x
 * or from y (activations.def says which). s = sigmoid, Phi and phi the normal distribution and its
 * density.
 *
 *   gelu           x Phi(x)
 *   gelu_tanh      x s(2 sqrt(2 / pi) (x + 0.044715 x^3))
 *   silu           x s(x)
 *   mish           x tanh(softplus x)
 *   softplus       ln(1 + e^(beta x)) / beta, x where beta x is above a threshold
 *   softsign       x / (1 + |x|)
 *   elu            x, below 0 alpha (e^x - 1); selu likewise, with fixed factors
 *   leaky_relu     x, below 0 slope x
 *   hard_sigmoid   alpha x + beta within 0..1
 *   hard_swish     x (x + 3) / 6, 0 below -3 and x above 3
 *
 * At a corner the gradient is PyTorch's: 0 for relu, hard_sigmoid and clip, the outer side's for
 * hard_swish, the lower side's for leaky_relu and elu. Where x is infinite, a product 0 inf would
 * be NaN: x is limited first, to where the other factor is 0 or 1 already. NaN passes vf_min and
 * vf_max as their second operand, and a selection on a comparison, which it fails, as its second
 * branch.
 */

VF_INLINE vf vf_limited(float low, float high, vf x) {
    return vf_max(vf_set1(low), vf_min(vf_set1(high), x));
}
VF_INLINE vf vf_where_below(vf x, float bound, vf yes, vf no) {
    return vf_select(vf_lt(x, vf_set1(bound)), yes, no);
}
VF_INLINE vf vf_where_above(vf x, float bound, vf yes, vf no) {
    return vf_select(vf_lt(vf_set1(bound), x), yes, no);
}

/* ---- powers and logarithms --------------------------------------------------------------- */

VF_INLINE vf abs_forward(vf x, float a, float b) { return (void)a, (void)b, vf_abs(x); }
VF_INLINE vf abs_backward(vf dy, vf x, float a, float b) {
    const vf below = vf_where_below(x, 0.0f, -dy, x * 0.0f);
    return (void)a, (void)b, vf_where_above(x, 0.0f, dy, below);
}

VF_INLINE vf square_forward(vf x, float a, float b) { return (void)a, (void)b, x * x; }
VF_INLINE vf square_backward(vf dy, vf x, float a, float b) {
    return (void)a, (void)b, dy * (x + x);
}

VF_INLINE vf sqrt_forward(vf x, float a, float b) { return (void)a, (void)b, vf_sqrt(x); }
VF_INLINE vf sqrt_backward(vf dy, vf y, float a, float b) { return (void)a, (void)b, dy / (y + y); }

VF_INLINE vf exp_forward(vf x, float a, float b) { return (void)a, (void)b, vf_exp(x); }
VF_INLINE vf exp_backward(vf dy, vf y, float a, float b) { return (void)a, (void)b, dy * y; }

VF_INLINE vf log_forward(vf x, float a, float b) { return (void)a, (void)b, vf_log(x); }
VF_INLINE vf log_backward(vf dy, vf x, float a, float b) { return (void)a, (void)b, dy / x; }

/* ---- between two bounds ------------------------------------------------------------------ */

VF_INLINE vf tanh_forward(vf x, float a, float b) { return (void)a, (void)b, vf_tanh(x); }
VF_INLINE vf tanh_backward(vf dy, vf y, float a, float b) {
    return (void)a, (void)b, dy * vf_fma(-y, y, vf_set1(1.0f));
}

VF_INLINE vf sigmoid_forward(vf x, float a, float b) { return (void)a, (void)b, vf_sigmoid(x); }
VF_INLINE vf sigmoid_backward(vf dy, vf y, float a, float b) {
    return (void)a, (void)b, dy * (y * (1.0f - y));
}

VF_INLINE vf hard_sigmoid_forward(vf x, float alpha, float beta) {
    return vf_limited(0.0f, 1.0f, vf_fma(x, vf_set1(alpha), vf_set1(beta)));
}
VF_INLINE vf hard_sigmoid_backward(vf dy, vf y, float alpha, float beta) {
    const vf flat = y * 0.0f;
    (void)beta;
    return vf_where_above(y, 0.0f, vf_where_below(y, 1.0f, alpha * dy, flat), flat);
}

VF_INLINE vf clip_forward(vf x, float low, float high) { return vf_limited(low, high, x); }
VF_INLINE vf clip_backward(vf dy, vf x, float low, float high) {
    const vf flat = vf_set1(0.0f);
    return vf_where_above(x, low, vf_where_below(x, high, dy, flat), flat);
}

VF_INLINE vf softsign_forward(vf x, float a, float b) {
    const vf limited = vf_limited(-0x1p60f, 0x1p60f, x);
    return (void)a, (void)b, limited / (1.0f + vf_abs(limited));
}
VF_INLINE vf softsign_backward(vf dy, vf x, float a, float b) {
    const vf root = 1.0f / (1.0f + vf_abs(x));
    return (void)a, (void)b, dy * (root * root);
}

/* ---- rectifiers -------------------------------------------------------------------------- */

VF_INLINE vf relu_forward(vf x, float a, float b) {
    return (void)a, (void)b, vf_max(vf_set1(0.0f), x);
}
VF_INLINE vf relu_backward(vf dy, vf y, float a, float b) {
    return (void)a, (void)b, vf_where_above(y, 0.0f, dy, y * 0.0f);
}

VF_INLINE vf leaky_relu_forward(vf x, float slope, float b) {
    return (void)b, vf_where_above(x, 0.0f, x, slope * x);
}
VF_INLINE vf leaky_relu_backward(vf dy, vf x, float slope, float b) {
    return (void)b, vf_where_above(x, 0.0f, dy, slope * dy);
}

VF_INLINE vf elu_forward(vf x, float alpha, float b) {
    return (void)b, vf_where_above(x, 0.0f, x, alpha * vf_expm1(x));
}
VF_INLINE vf elu_backward(vf dy, vf x, float alpha, float b) {
    return (void)b, vf_where_above(x, 0.0f, dy, dy * (alpha * vf_exp(x)));
}

/* 1.0507..., and that times 1.6732... (Klambauer et al. 2017). */
VF_INLINE vf selu_forward(vf x, float a, float b) {
    const vf below = 0x1.c212ccp+0f * vf_expm1(x);
    return (void)a, (void)b, vf_where_above(x, 0.0f, 0x1.0cfabep+0f * x, below);
}
VF_INLINE vf selu_backward(vf dy, vf x, float a, float b) {
    const vf below = dy * (0x1.c212ccp+0f * vf_exp(x));
    return (void)a, (void)b, vf_where_above(x, 0.0f, 0x1.0cfabep+0f * dy, below);
}

VF_INLINE vf hard_swish_forward(vf x, float a, float b) {
    const vf gate = vf_limited(0.0f, 6.0f, x + 3.0f);
    return (void)a, (void)b, vf_max(vf_set1(-4.0f), x) * (gate * (1.0f / 6.0f));
}
VF_INLINE vf hard_swish_backward(vf dy, vf x, float a, float b) {
    const vf middle = dy * vf_fma(x, vf_set1(1.0f / 3.0f), vf_set1(0.5f));
    const vf above = vf_where_below(x, 3.0f, middle, dy);
    return (void)a, (void)b, vf_where_above(x, -3.0f, above, vf_set1(0.0f));
}

/* ln(1 + e^v) at v = beta x, over beta; x above a threshold of v. The rounding of v matters where
 * the result is e^v: `low` is what it took away. */
VF_INLINE vf softplus_forward(vf x, float beta, float threshold) {
    const vf v = beta * x, a = vf_min(vf_set1(100.0f), vf_abs(v));
    const vf low = vf_where_below(a, 100.0f, vf_fma(x, vf_set1(beta), -v), vf_set1(0.0f));
    const vf e = vf_exp(-a), tilt = vf_where_below(v, 0.0f, low, -low);
    const vf y = vf_max(vf_set1(0.0f), x) + vf_log1p(vf_fma(e, tilt, e)) / beta;
    return vf_where_above(v, threshold, x, y);
}
VF_INLINE vf softplus_backward(vf dy, vf x, float beta, float threshold) {
    const vf v = beta * x;
    return vf_where_above(v, threshold, dy, dy * vf_sigmoid(v));
}

VF_INLINE vf log_sigmoid_forward(vf x, float a, float b) {
    return (void)a, (void)b, vf_min(vf_set1(0.0f), x) - vf_log1p(vf_exp(-vf_abs(x)));
}
VF_INLINE vf log_sigmoid_backward(vf dy, vf x, float a, float b) {
    return (void)a, (void)b, dy * vf_sigmoid(-x);
}

VF_INLINE vf silu_forward(vf x, float a, float b) {
    return (void)a, (void)b, vf_gated(x, x, vf_set1(0.0f));
}
VF_INLINE vf silu_backward(vf dy, vf x, float a, float b) {
    vf rest;
    const vf s = vf_sigmoid_and_rest(x, &rest);
    return (void)a, (void)b, dy * vf_fma(s, rest * vf_limited(-100.0f, 100.0f, x), s);
}

/* The argument of gelu_tanh's sigmoid, in two parts: relative to s(v) = e^v, its rounding counts
 * |v| times. c1 = 2 sqrt(2 / pi), c3 = 0.044715 c1, each in two parts, too. */
VF_INLINE vf gelu_tanh_argument(vf x, vf *low) {
    const vf c1 = vf_set1(0x1.988454p+0f), c3 = vf_set1(0x1.2444f2p-4f);
    const vf x2 = x * x, x2_low = vf_fma(x, x, -x2);
    const vf t = c3 * x2, t_low = vf_fma(c3, x2, -t);
    const vf p = c1 + t, part = p - c1;
    const vf p_low = (c1 - (p - part)) + (t - part);
    const vf rest = vf_fma(c3, x2_low, vf_fma(vf_set1(0x1.49b16ap-29f), x2, t_low));
    const vf v = p * x;
    *low = vf_fma(p, x, -v) + x * (p_low + rest - 0x1.857936p-25f);
    return v;
}
VF_INLINE vf gelu_tanh_forward(vf x, float a, float b) {
    vf low;
    const vf v = gelu_tanh_argument(vf_limited(-20.0f, 20.0f, x), &low);
    return (void)a, (void)b, vf_gated(x, v, low);
}
VF_INLINE vf gelu_tanh_backward(vf dy, vf x, float a, float b) {
    vf low, rest;
    const vf limited = vf_limited(-20.0f, 20.0f, x);
    const vf s = vf_sigmoid_and_rest(gelu_tanh_argument(limited, &low), &rest);
    const vf slope = vf_fma(limited * limited, vf_set1(0x1.b6676cp-3f), vf_set1(0x1.988454p+0f));
    return (void)a, (void)b, dy * vf_fma(s * rest, limited * slope, s);
}

/* x / 2 + x^2 p near 0. With a = |x| it is x Phi(-a) elsewhere, which is x Phi(-a) e^(a^2 / 2)
 * times an exponential, or what x lacks of that. The rounding of a^2 counts a^2 times in the
 * exponential: a factor makes up for it. */
VF_INLINE vf gelu_forward(vf x, float a, float b) {
    const vf limited = vf_limited(-20.0f, 20.0f, x), size = vf_abs(limited);
    const vf square = size * size, low = vf_fma(size, size, -square);
    const vf tail = limited * vf_normal_tail(size);
    const vf below = vf_times_exp(tail, 0.5f * square, 0.5f * low);
    const vf far = vf_where_above(x, 0.0f, x - below, below);
    const vf near = vf_fma(square, vf_normal_centre(square), 0.5f * x);
    return (void)a, (void)b, vf_where_below(size, 0.5f, near, far);
}
/* Phi(x) + x phi(x). */
VF_INLINE vf gelu_backward(vf dy, vf x, float a, float b) {
    const vf size = vf_min(vf_set1(14.0f), vf_abs(x)), e = vf_exp(-0.5f * size * size);
    const vf below = e * vf_fma(size, vf_set1(-0x1.988454p-2f), vf_normal_tail(size));
    return (void)a, (void)b, dy * vf_where_above(x, 0.0f, 1.0f - below, below);
}

/* With f = e^-|x|: tanh(softplus x) = n / d, n = 1 + 2 f and d = n + 2 f^2 for x >= 0, n = f (f +
 * 2) and d = n + 2 below. */
VF_INLINE vf mish_forward(vf x, float a, float b) {
    const vf size = vf_abs(x), f = vf_exp(-size), zero = vf_set1(0.0f), two = vf_set1(2.0f);
    const vf n = vf_fma(f, two, vf_set1(1.0f));
    const vf d = vf_where_below(x, 0.0f, vf_fma(f, f + two, two), vf_fma(f + f, f, n));
    const vf negative = vf_max(vf_set1(-1000.0f), vf_min(zero, x));
    const vf below = vf_times_exp(negative, size, zero) * (f + two);
    return (void)a, (void)b, vf_where_below(x, 0.0f, below, x * n) / d;
}
VF_INLINE vf mish_backward(vf dy, vf x, float a, float b) {
    const vf limited = vf_limited(-100.0f, 100.0f, x), f = vf_exp(-vf_abs(limited));
    const vf n = vf_where_below(x, 0.0f, f * (f + 2.0f), vf_fma(f, vf_set1(2.0f), vf_set1(1.0f)));
    const vf d = vf_where_below(x, 0.0f, n + 2.0f, vf_fma(f + f, f, n)), t = n / d;
    const vf slope = limited * vf_sigmoid(limited) * ((1.0f - t) * (1.0f + t));
    return (void)a, (void)b, dy * (t + slope);
}

/* ---- pairs ------------------------------------------------------------------------------- */

/* A power of two near the larger part, and its reciprocal, so that no square over- or underflows.
 */
VF_INLINE vf magnitude_scale(vf re, vf im, vf *reciprocal) {
    const vf larger = vf_max(vf_abs(im), vf_abs(re));
    const vf power = vf_from_bits(vf_bits(larger) & 0x7f800000);
    const vf scale = vf_limited(0x1p-120f, 0x1p120f, power);
    *reciprocal = vf_from_bits(0x7f000000 - vf_bits(scale));
    return scale;
}
VF_INLINE vf magnitude_forward(vf re, vf im) {
    vf reciprocal;
    const vf scale = magnitude_scale(re, im, &reciprocal);
    re *= reciprocal, im *= reciprocal;
    return scale * vf_sqrt(vf_fma(re, re, im * im));
}
/* dre = dy re / y, 0 where y is 0. */
VF_INLINE void magnitude_backward(vf dy, vf re, vf im, vf *dre, vf *dim) {
    vf reciprocal;
    magnitude_scale(re, im, &reciprocal);
    re *= reciprocal, im *= reciprocal;
    const vf y = vf_sqrt(vf_fma(re, re, im * im)), some = vf_set1(1.0f);
    const vf share = dy / vf_select(vf_lt(vf_set1(0.0f), y), y, some + y);
    *dre = share * re;
    *dim = share * im;
}
