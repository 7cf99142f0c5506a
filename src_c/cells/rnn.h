/* Elman network (Elman 1990; torch.nn.RNN):
 *
 *   h1 = act(W_ih x + b_ih + W_hh h0 + b_hh)      act: tanh, relu, s, identity
 *
 * z holds the pre-activation and afterwards h1, which is all that the backward pass needs. That
 * turns it into dz, the gradient of the pre-activation: dz = dh act', with act' in terms of h1:
 * 1 - h1 h1, h1 > 0, s', 1. Saturated, where little or no gradient passes: |h1| > 0.9, h1 = 0, as
 * gates are, never. s is the activation of gates (simd/gates.h).
 */

VF_INLINE void rnn_tanh_forward(struct gates s, vf z[1], vf h0, vf c0, const vf *p, vf *h1,
                                vf *c1) {
    z[0] = vf_tanh(z[0]);
    *h1 = z[0];
    (void)s, (void)h0, (void)c0, (void)p, (void)c1;
}

VF_INLINE void rnn_tanh_backward(struct gates s, vf z[1], vf h0, vf c0, vf c1, const vf *p, vf dh,
                                 vf *dc, vf *dh0) {
    z[0] = dh * (vf_set1(1.0f) - z[0] * z[0]);
    (void)s, (void)h0, (void)c0, (void)c1, (void)p, (void)dc, (void)dh0;
}

VF_INLINE vf rnn_tanh_saturated(struct gates s, const vf z[1]) {
    return (void)s, vf_outside(-0.9f, 0.9f, z[0]);
}

VF_INLINE void rnn_relu_forward(struct gates s, vf z[1], vf h0, vf c0, const vf *p, vf *h1,
                                vf *c1) {
    z[0] = vf_max(vf_set1(0.0f), z[0]);
    *h1 = z[0];
    (void)s, (void)h0, (void)c0, (void)p, (void)c1;
}

VF_INLINE void rnn_relu_backward(struct gates s, vf z[1], vf h0, vf c0, vf c1, const vf *p, vf dh,
                                 vf *dc, vf *dh0) {
    z[0] = vf_select(vf_lt(vf_set1(0.0f), z[0]), dh, z[0] * vf_set1(0.0f));
    (void)s, (void)h0, (void)c0, (void)c1, (void)p, (void)dc, (void)dh0;
}

VF_INLINE vf rnn_relu_saturated(struct gates s, const vf z[1]) {
    return (void)s, vf_select(vf_lt(vf_set1(0.0f), z[0]), vf_set1(0.0f), vf_set1(1.0f));
}

VF_INLINE void rnn_sigmoid_forward(struct gates s, vf z[1], vf h0, vf c0, const vf *p, vf *h1,
                                   vf *c1) {
    z[0] = gate(s, z[0]);
    *h1 = z[0];
    (void)h0, (void)c0, (void)p, (void)c1;
}

VF_INLINE void rnn_sigmoid_backward(struct gates s, vf z[1], vf h0, vf c0, vf c1, const vf *p,
                                    vf dh, vf *dc, vf *dh0) {
    z[0] = dh * gate_slope(s, z[0]);
    (void)h0, (void)c0, (void)c1, (void)p, (void)dc, (void)dh0;
}

VF_INLINE vf rnn_sigmoid_saturated(struct gates s, const vf z[1]) {
    return gate_saturated(s, z[0]);
}

VF_INLINE void rnn_identity_forward(struct gates s, vf z[1], vf h0, vf c0, const vf *p, vf *h1,
                                    vf *c1) {
    *h1 = z[0];
    (void)s, (void)h0, (void)c0, (void)p, (void)c1;
}

VF_INLINE void rnn_identity_backward(struct gates s, vf z[1], vf h0, vf c0, vf c1, const vf *p,
                                     vf dh, vf *dc, vf *dh0) {
    z[0] = dh;
    (void)s, (void)h0, (void)c0, (void)c1, (void)p, (void)dc, (void)dh0;
}

VF_INLINE vf rnn_identity_saturated(struct gates s, const vf z[1]) {
    return (void)s, (void)z, vf_set1(0.0f);
}
