/* Shared by the C tests: a generator, aligned memory, hashes, and cells by name. */
#ifndef FASTRNN_TEST_SUPPORT_H
#define FASTRNN_TEST_SUPPORT_H

#include "../../src_c/include/fastrnn_decode.h"
#include "../../src_c/include/fastrnn_train.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int failures, checks;

#define CHECK(condition, ...)                                      \
    do {                                                           \
        checks++;                                                  \
        if (!(condition)) {                                        \
            failures++;                                            \
            printf("%s:%d: %s: ", __FILE__, __LINE__, #condition); \
            printf(__VA_ARGS__);                                   \
            printf("\n");                                          \
        }                                                          \
    } while (0)

static inline int report(const char *name) {
    printf("%s (%s): %d passed, %d failed\n", name, fr_isa(), checks - failures, failures);
    return failures ? 1 : 0;
}

/* Uniform in [-scale, scale); splitmix64. */
static inline float uniform(uint64_t *seed, float scale) {
    uint64_t z = (*seed += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return ((float)(int32_t)((z ^ (z >> 31)) >> 40) / 8388608.0f - 1.0f) * scale;
}

static inline void *aligned(size_t bytes) {
    void *memory = NULL;
    if (posix_memalign(&memory, FR_ALIGNMENT, bytes ? bytes : 1)) exit(2);
    memset(memory, 0x5a, bytes); /* nothing may depend on what was there */
    return memory;
}

static inline float *random_floats(size_t n, uint64_t seed, float scale) {
    float *x = aligned(n * sizeof *x);
    for (size_t i = 0; i < n; i++) x[i] = uniform(&seed, scale);
    return x;
}

static inline uint64_t hash_bits(uint64_t hash, const float *x, size_t n) { /* FNV-1a */
    const unsigned char *bytes = (const unsigned char *)x;
    for (size_t i = 0; i < n * sizeof *x; i++) hash = (hash ^ bytes[i]) * 0x100000001b3u;
    return hash;
}
static const uint64_t HASH_START = 0xcbf29ce484222325u;

/* ---- cells ------------------------------------------------------------------------------- */

/* A cell with a choice of its gates' activation: "lstm", or "lstm hard" with the hard sigmoid of
 * ONNX and Keras 2. */
static inline void name_variant(char name[64], const fr_cell_info *cell, int activation) {
    snprintf(name, 64, "%s%s", cell->name, activation == FR_GATE_HARD_SIGMOID ? " hard" : "");
}

/* The number of variants of a cell, named and found by numbers from 0. */
static inline int variants_of(const fr_cell_info *cell) {
    return cell->gate_activations ? FR_GATE_ACTIVATIONS : 1;
}

/* A shape whose cell is a variant by its name. */
static inline fr_shape shape_with(const char *variant, fr_shape shape) {
    char cell[64];
    snprintf(cell, sizeof cell, "%.*s", (int)strcspn(variant, " "), variant);
    shape.cell = fr_cell(cell);
    if (strchr(variant, ' ')) {
        shape.gate_activation = FR_GATE_HARD_SIGMOID;
        shape.gate_alpha = 0.2f, shape.gate_beta = 0.5f;
    }
    return shape;
}

static inline const fr_cell_info *info_of(const char *variant) {
    return fr_cell_at(shape_with(variant, (fr_shape){.bias = 1}).cell);
}

#endif
