/* Long short-term memory (Hochreiter and Schmidhuber 1997; Gers et al. 2000; torch.nn.LSTM),
 * s = sigmoid, pre-activations z = W_ih x + b_ih + W_hh h0 + b_hh, gate order i f g o:
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
 * z holds i f g o afterwards; tanh(c1) is recomputed from c1 in the backward pass.
 */

VF_INLINE void lstm_forward(vf z[4], vf h0, vf c0, const vf p[3], vf *h1, vf *c1) {
    z[0] = vf_sigmoid(z[0]);
    z[1] = vf_sigmoid(z[1]);
    z[2] = vf_tanh(z[2]);
    z[3] = vf_sigmoid(z[3]);
    *c1 = vf_fma(z[1], c0, z[0] * z[2]);
    *h1 = z[3] * vf_tanh(*c1);
    (void)h0, (void)p;
}

VF_INLINE void lstm_peephole_forward(vf z[4], vf h0, vf c0, const vf p[3], vf *h1, vf *c1) {
    z[0] = vf_sigmoid(vf_fma(p[0], c0, z[0]));
    z[1] = vf_sigmoid(vf_fma(p[1], c0, z[1]));
    z[2] = vf_tanh(z[2]);
    *c1 = vf_fma(z[1], c0, z[0] * z[2]);
    z[3] = vf_sigmoid(vf_fma(p[2], *c1, z[3]));
    *h1 = z[3] * vf_tanh(*c1);
    (void)h0;
}
