/* Long short-term memory (Hochreiter and Schmidhuber 1997; Gers et al. 2000; torch.nn.LSTM),
 * s the activation of gates (simd/gates.h), pre-activations z = W_ih x + b_ih + W_hh h0 + b_hh,
 * gate order i f g o:
 *
 *   i = s(z_i)   f = s(z_f)   g = tanh(z_g)   o = s(z_o)
 *   c1 = f c0 + i g
 *   h1 = o tanh(c1)
 *
 * With peepholes (Gers and Schmidhuber 2000; ONNX LSTM) p = (p_i, p_f, p_o), one each per unit;
 * i and f look at the old cell state, o at the new one:
 *
 *   i = s(z_i + p_i c0)   f = s(z_f + p_f c0)   o = s(z_o + p_o c1)
 *
 * A projection (Sak et al. 2014), h = W_hr (o tanh(c1)), is a product of its own after all units.
 * z holds i f g o afterwards. The backward pass recomputes tanh(c1) and turns z into dz, the
 * gradients of the pre-activations, and dc from the gradient of c1 into that of c0:
 *
 *   dz_o = dh tanh(c1) s'(o)
 *   dc1 = dc + dh o (1 - tanh(c1)^2)  [+ dz_o p_o]
 *   dz_i = dc1 g s'(i)   dz_f = dc1 c0 s'(f)   dz_g = dc1 i (1 - g^2)
 *   dc0 = dc1 f  [+ dz_i p_i + dz_f p_f]
 */

VF_INLINE void lstm_forward(struct gates s, vf z[4], vf h0, vf c0, const vf *p, vf *h1, vf *c1) {
    z[0] = gate(s, z[0]);
    z[1] = gate(s, z[1]);
    z[2] = vf_tanh(z[2]);
    z[3] = gate(s, z[3]);
    *c1 = vf_fma(z[1], c0, z[0] * z[2]);
    *h1 = z[3] * vf_tanh(*c1);
    (void)h0, (void)p;
}

VF_INLINE void lstm_peephole_forward(struct gates s, vf z[4], vf h0, vf c0, const vf *p, vf *h1,
                                     vf *c1) {
    z[0] = gate(s, vf_fma(p[0], c0, z[0]));
    z[1] = gate(s, vf_fma(p[1], c0, z[1]));
    z[2] = vf_tanh(z[2]);
    *c1 = vf_fma(z[1], c0, z[0] * z[2]);
    z[3] = gate(s, vf_fma(p[2], *c1, z[3]));
    *h1 = z[3] * vf_tanh(*c1);
    (void)h0;
}

/* The part that both share; dc1 is complete. */
VF_INLINE void lstm_backward_below_c1(struct gates s, vf z[4], vf c0, vf dc1) {
    const vf i = z[0], f = z[1], g = z[2], one = vf_set1(1.0f);
    z[0] = dc1 * g * gate_slope(s, i);
    z[1] = dc1 * c0 * gate_slope(s, f);
    z[2] = dc1 * i * (one - g * g);
}

VF_INLINE void lstm_backward(struct gates s, vf z[4], vf h0, vf c0, vf c1, const vf *p, vf dh,
                             vf *dc, vf *dh0) {
    const vf f = z[1], o = z[3], t = vf_tanh(c1), one = vf_set1(1.0f);
    const vf dc1 = vf_fma(dh * o, one - t * t, *dc);
    z[3] = dh * t * gate_slope(s, o);
    lstm_backward_below_c1(s, z, c0, dc1);
    *dc = dc1 * f;
    (void)h0, (void)p, (void)dh0;
}

VF_INLINE void lstm_peephole_backward(struct gates s, vf z[4], vf h0, vf c0, vf c1, const vf *p,
                                      vf dh, vf *dc, vf *dh0) {
    const vf f = z[1], o = z[3], t = vf_tanh(c1), one = vf_set1(1.0f);
    z[3] = dh * t * gate_slope(s, o);
    const vf dc1 = vf_fma(z[3], p[2], vf_fma(dh * o, one - t * t, *dc));
    lstm_backward_below_c1(s, z, c0, dc1);
    *dc = vf_fma(z[1], p[1], vf_fma(z[0], p[0], dc1 * f));
    (void)h0, (void)dh0;
}

VF_INLINE vf lstm_saturated(struct gates s, const vf z[4]) {
    return gate_saturated(s, z[0]) + gate_saturated(s, z[1]) + gate_saturated(s, z[3]);
}

VF_INLINE vf lstm_peephole_saturated(struct gates s, const vf z[4]) { return lstm_saturated(s, z); }
