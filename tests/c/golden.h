#include <stdint.h>
#include <string.h>

struct golden {
    const char *variant; /* of a cell, see name_variant */
    uint64_t hash;
};

/* The hash of a variant; 0, which none has, where nothing is known of it. */
static inline uint64_t golden_of(const struct golden *golden, size_t count, const char *variant) {
    for (size_t i = 0; i < count; i++) {
        if (strcmp(golden[i].variant, variant) == 0) return golden[i].hash;
    }
    return 0;
}
#define GOLDEN_OF(golden, variant) golden_of(golden, sizeof golden / sizeof *golden, variant)

/* Hashes of all outputs of test_core, one per variant of a cell: equal on every instruction set
 * with fused multiply-add. They change only when the numeric contract does. */
static const struct golden GOLDEN[] = {
    {"rnn_tanh", 0x067815dab5a6c3d1},
    {"rnn_relu", 0x4d0f7b6433d2fd88},
    {"rnn_sigmoid", 0x85736d6665d0d71e},
    {"rnn_sigmoid hard", 0x74d9b19b9b8a356b},
    {"rnn_identity", 0x8aec48faf038223f},
    {"lstm", 0x75165f779815d75a},
    {"lstm hard", 0x6ae024968f086f54},
    {"lstm_peephole", 0xb08b0a4eda363ab3},
    {"lstm_peephole hard", 0x8f8a6411336bee9a},
    {"gru", 0x0bbebab2d492d2f2},
    {"gru hard", 0xef5d81efb9083126},
    {"gru_reset_before", 0x145816df921f45ba},
    {"gru_reset_before hard", 0x1814d8910059c0df},
    {"light_gru", 0x3c6d1a8c43047a9d},
    {"light_gru hard", 0x5a6b549c1f52b6fb},
};
static const uint64_t GOLDEN_LINEAR = 0xdeb31904283b3661;
/* The same for the gradients of test_backward. */
static const struct golden GOLDEN_BACKWARD[] = {
    {"rnn_tanh", 0xb7a721e5521ec531},
    {"rnn_relu", 0x0c83ee8fcda74983},
    {"rnn_sigmoid", 0xd9e93ccea3158f93},
    {"rnn_sigmoid hard", 0x0935009fa6023a20},
    {"rnn_identity", 0x80064e13dcd52ae4},
    {"lstm", 0xb7c81ffeb056147f},
    {"lstm hard", 0x0ec2f0a4c76665bd},
    {"lstm_peephole", 0x2cd184db74f68137},
    {"lstm_peephole hard", 0x7475ae9ace8b0375},
    {"gru", 0x5d9e01028726b024},
    {"gru hard", 0x1013648b494d6818},
    {"gru_reset_before", 0x3008ed722af4f826},
    {"gru_reset_before hard", 0x06da803454ea89b3},
    {"light_gru", 0xfc49a3c050d783c4},
    {"light_gru hard", 0x90743c62b92542f8},
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
