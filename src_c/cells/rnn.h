/* Elman network (Elman 1990; torch.nn.RNN):
 *
 *   h1 = act(W_ih x + b_ih + W_hh h0 + b_hh)      act: tanh, relu, sigmoid, identity
 *
 * z holds the pre-activation and afterwards h1, which is all that the backward pass needs.
 */

VF_INLINE void rnn_tanh_forward(vf z[1], vf h0, vf c0, const vf p[3], vf *h1, vf *c1) {
    z[0] = vf_tanh(z[0]);
    *h1 = z[0];
    (void)h0, (void)c0, (void)p, (void)c1;
}

VF_INLINE void rnn_relu_forward(vf z[1], vf h0, vf c0, const vf p[3], vf *h1, vf *c1) {
    z[0] = vf_max(vf_set1(0.0f), z[0]);
    *h1 = z[0];
    (void)h0, (void)c0, (void)p, (void)c1;
}

VF_INLINE void rnn_sigmoid_forward(vf z[1], vf h0, vf c0, const vf p[3], vf *h1, vf *c1) {
    z[0] = vf_sigmoid(z[0]);
    *h1 = z[0];
    (void)h0, (void)c0, (void)p, (void)c1;
}

VF_INLINE void rnn_identity_forward(vf z[1], vf h0, vf c0, const vf p[3], vf *h1, vf *c1) {
    *h1 = z[0];
    (void)h0, (void)c0, (void)p, (void)c1;
}
