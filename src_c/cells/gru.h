/* Gated recurrent unit, s the activation of gates (simd/gates.h), gate order r z n.
 *
 * Reset after the recurrent product (torch.nn.GRU, cuDNN), slots (n_h, r, z, n_x):
 *
 *   r = s(W_ir x + b_ir + W_hr h0 + b_hr)      n_x = W_in x + b_in
 *   z = s(W_iz x + b_iz + W_hz h0 + b_hz)      n_h = W_hn h0 + b_hn
 *   n = tanh(n_x + r n_h)
 *   h1 = z h0 + (1 - z) n
 *
 * Reset before it (Cho et al. 2014), slots (r, z, n); the second product needs u of every unit:
 *
 *   u = r h0
 *   n = tanh(W_in x + b_in + W_hn u + b_hn)
 *   h1 = z h0 + (1 - z) n
 *
 * Light (Ravanelli et al. 2018, without its batch normalisation, which weights can take in), no
 * reset, gate order z n, slots (z, n):
 *
 *   z = s(W_iz x + b_iz + W_hz h0 + b_hz)      n = max(0, W_in x + b_in + W_hn h0 + b_hn)
 *   h1 = z h0 + (1 - z) n
 *
 * The slots hold n_h r z n, or r z n, or z n, afterwards. h1 is written so that z = 1 keeps h0
 * exactly.
 *
 * Backward, dz is the gradient of a pre-activation, and dh0 the direct part of h0's gradient, which
 * the products with the dz of r, z and n_h (or of n, which gives du, and then of r and z) complete:
 *
 *   dz_n = dh (1 - z) (1 - n^2)   dz_z = dh (h0 - n) s'(z)   dh0 = dh z
 *   after:  dz_r = dz_n n_h s'(r)      dn_h = dz_n r
 *   before: dz_r = du h0 s'(r)         dh0 += du r
 *   light:  dz_n = dh (1 - z) where n > 0, else 0
 */

VF_INLINE vf gru_mix(vf z, vf h0, vf n) { return vf_fma(z, h0, (vf_set1(1.0f) - z) * n); }

VF_INLINE void gru_forward(struct gates s, vf z[4], vf h0, vf c0, const vf *p, vf *h1, vf *c1) {
    z[1] = gate(s, z[1]);
    z[2] = gate(s, z[2]);
    z[3] = vf_tanh(vf_fma(z[1], z[0], z[3]));
    *h1 = gru_mix(z[2], h0, z[3]);
    (void)c0, (void)p, (void)c1;
}

VF_INLINE void gru_reset_before_gates(struct gates s, vf z[3], vf h0, vf *u) {
    z[0] = gate(s, z[0]);
    z[1] = gate(s, z[1]);
    *u = z[0] * h0;
}

VF_INLINE void gru_reset_before_forward(struct gates s, vf z[3], vf h0, vf c0, const vf *p, vf *h1,
                                        vf *c1) {
    z[2] = vf_tanh(z[2]);
    *h1 = gru_mix(z[1], h0, z[2]);
    (void)s, (void)c0, (void)p, (void)c1;
}

VF_INLINE void gru_backward(struct gates s, vf z[4], vf h0, vf c0, vf c1, const vf *p, vf dh,
                            vf *dc, vf *dh0) {
    const vf n_h = z[0], r = z[1], u = z[2], n = z[3], one = vf_set1(1.0f);
    z[3] = dh * (one - u) * (one - n * n);
    z[2] = dh * (h0 - n) * gate_slope(s, u);
    z[1] = z[3] * n_h * gate_slope(s, r);
    z[0] = z[3] * r;
    *dh0 = dh * u;
    (void)c0, (void)c1, (void)p, (void)dc;
}

VF_INLINE vf gru_saturated(struct gates s, const vf z[4]) {
    return gate_saturated(s, z[1]) + gate_saturated(s, z[2]);
}

VF_INLINE void gru_reset_before_backward(struct gates s, vf z[3], vf h0, vf c0, vf c1, const vf *p,
                                         vf dh, vf *dc, vf *dh0) {
    const vf u = z[1], n = z[2], one = vf_set1(1.0f);
    z[2] = dh * (one - u) * (one - n * n);
    z[1] = dh * (h0 - n) * gate_slope(s, u);
    *dh0 = dh * u;
    (void)c0, (void)c1, (void)p, (void)dc;
}

VF_INLINE void gru_reset_before_gates_backward(struct gates s, vf z[3], vf h0, vf du, vf *dh0) {
    const vf r = z[0];
    z[0] = du * h0 * gate_slope(s, r);
    *dh0 = vf_fma(du, r, *dh0);
}

VF_INLINE vf gru_reset_before_saturated(struct gates s, const vf z[3]) {
    return gate_saturated(s, z[0]) + gate_saturated(s, z[1]);
}

VF_INLINE void light_gru_forward(struct gates s, vf z[2], vf h0, vf c0, const vf *p, vf *h1,
                                 vf *c1) {
    z[0] = gate(s, z[0]);
    z[1] = vf_max(vf_set1(0.0f), z[1]);
    *h1 = gru_mix(z[0], h0, z[1]);
    (void)c0, (void)p, (void)c1;
}

VF_INLINE void light_gru_backward(struct gates s, vf z[2], vf h0, vf c0, vf c1, const vf *p, vf dh,
                                  vf *dc, vf *dh0) {
    const vf u = z[0], n = z[1], zero = vf_set1(0.0f);
    z[1] = vf_select(vf_lt(zero, n), dh * (vf_set1(1.0f) - u), n * zero);
    z[0] = dh * (h0 - n) * gate_slope(s, u);
    *dh0 = dh * u;
    (void)c0, (void)c1, (void)p, (void)dc;
}

VF_INLINE vf light_gru_saturated(struct gates s, const vf z[2]) { return gate_saturated(s, z[0]); }
