/* Hashes of all outputs of test_core, one per cell: equal on every instruction set with fused
 * multiply-add. They change only when the numeric contract does. */
static const uint64_t GOLDEN[] = {
    0xc4abc1bc88c0eb91, /* rnn_tanh */
    0x846fd324fce8e052, /* rnn_relu */
    0x1d93abac58e97402, /* rnn_sigmoid */
    0x8fcaeed54bb4ca1d, /* rnn_identity */
    0xf704b8c7b0e377de, /* lstm */
    0xb46de6ca188d5a3b, /* lstm_peephole */
    0xa3c889140585b3fc, /* gru */
    0xe4d419e6b84ad5d2, /* gru_reset_before */
};
static const uint64_t GOLDEN_LINEAR = 0xf597567b4313b803;
