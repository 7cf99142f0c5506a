/* Hashes of all outputs of test_core, one per cell: equal on every instruction set with fused
 * multiply-add. They change only when the numeric contract does. */
static const uint64_t GOLDEN[] = {
    0x067815dab5a6c3d1, /* rnn_tanh */
    0x4d0f7b6433d2fd88, /* rnn_relu */
    0x85736d6665d0d71e, /* rnn_sigmoid */
    0x8aec48faf038223f, /* rnn_identity */
    0x75165f779815d75a, /* lstm */
    0xb08b0a4eda363ab3, /* lstm_peephole */
    0x0bbebab2d492d2f2, /* gru */
    0x145816df921f45ba, /* gru_reset_before */
};
static const uint64_t GOLDEN_LINEAR = 0xdeb31904283b3661;
/* The same for the gradients of test_backward. */
static const uint64_t GOLDEN_BACKWARD[] = {
    0xb7a721e5521ec531, /* rnn_tanh */
    0x0c83ee8fcda74983, /* rnn_relu */
    0xd9e93ccea3158f93, /* rnn_sigmoid */
    0x80064e13dcd52ae4, /* rnn_identity */
    0xb7c81ffeb056147f, /* lstm */
    0x2cd184db74f68137, /* lstm_peephole */
    0x5d9e01028726b024, /* gru */
    0x3008ed722af4f826, /* gru_reset_before */
};
/* The same for test_attention, by the kind of score. */
static const uint64_t GOLDEN_ATTENTION[] = {
    0x2ce3e56587a25733, /* product */
    0xced03cc37f8f002c, /* shared */
    0x439674fcd39180cd, /* additive */
};
/* The same for all outputs and gradients of test_ops and test_activations. */
static const uint64_t GOLDEN_CONV = 0x0f740b0fdcea5784;
static const uint64_t GOLDEN_ACTIVATIONS = 0xc7d41f2dc20b4ce3;
