/* Gated recurrent unit, s = sigmoid, gate order r z n.
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
 * The slots hold n_h r z n, or r z n, afterwards. h1 is written so that z = 1 keeps h0 exactly.
 */

VF_INLINE vf gru_mix(vf z, vf h0, vf n) { return vf_fma(z, h0, (vf_set1(1.0f) - z) * n); }

VF_INLINE void gru_forward(vf z[4], vf h0, vf c0, const vf p[3], vf *h1, vf *c1) {
    z[1] = vf_sigmoid(z[1]);
    z[2] = vf_sigmoid(z[2]);
    z[3] = vf_tanh(vf_fma(z[1], z[0], z[3]));
    *h1 = gru_mix(z[2], h0, z[3]);
    (void)c0, (void)p, (void)c1;
}

VF_INLINE void gru_reset_before_gates(vf z[3], vf h0, vf *u) {
    z[0] = vf_sigmoid(z[0]);
    z[1] = vf_sigmoid(z[1]);
    *u = z[0] * h0;
}

VF_INLINE void gru_reset_before_forward(vf z[3], vf h0, vf c0, const vf p[3], vf *h1, vf *c1) {
    z[2] = vf_tanh(z[2]);
    *h1 = gru_mix(z[1], h0, z[2]);
    (void)c0, (void)p, (void)c1;
}
