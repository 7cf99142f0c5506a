/* Hashes of all outputs of test_core, one per cell: equal on every instruction set with fused
 * multiply-add. They change only when the numeric contract does. */
static const uint64_t GOLDEN[] = {
    0xc4abc1bc88c0eb91, /* rnn_tanh */
    0x846fd324fce8e052, /* rnn_relu */
    0x68070ad9963af7d7, /* rnn_sigmoid */
    0x8fcaeed54bb4ca1d, /* rnn_identity */
    0xee013c48a1dd742c, /* lstm */
    0xc55d3d6b96f5a293, /* lstm_peephole */
    0x6f70e216d6c97dc6, /* gru */
    0xafb152f59020be8d, /* gru_reset_before */
};
static const uint64_t GOLDEN_LINEAR = 0xf597567b4313b803;
