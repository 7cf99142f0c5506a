/* Layout and packing. The layout itself is described in kernels.h. */
#include "matrix.h"

#include <string.h>

static int32_t groups_of(int32_t outputs) { return (outputs + FR_GROUP - 1) / FR_GROUP; }

/* Interleaved chains per sum: only where the outputs alone leave the latency of the fused
 * multiply-add uncovered. Part of the numeric contract: a function of the outputs alone. */
int32_t fr_chains(int64_t outputs) { return outputs <= 32 ? 4 : outputs <= 64 ? 2 : 1; }

struct fr_matrix fr_matrix_of(int32_t inputs, int32_t outputs, int32_t width) {
    const int32_t all = groups_of(outputs) * FR_GROUP;
    if (outputs == 0) return (struct fr_matrix){0};
    return (struct fr_matrix){
        .inputs = inputs,
        .outputs = outputs,
        .blocks = (outputs + width - 1) / width,
        .width = all < width ? all : width,
        .y_stride = width,
        .chains = fr_chains(outputs),
        .precision = FR_FLOAT32,
    };
}

/* ---- layout ------------------------------------------------------------------------------ */

/* Outputs of a block as they are stored: the last one has only the groups of 16 that exist. */
static int32_t stored_width(const struct fr_matrix *m, int32_t block) {
    const int32_t left = groups_of(m->outputs - block * m->width) * FR_GROUP;
    return left < m->width ? left : m->width;
}

static size_t block_elements(const struct fr_matrix *m, int32_t block) {
    return (size_t)m->inputs * (size_t)stored_width(m, block);
}

/* Blocks that are walked together must not start a multiple of 4 KiB apart: they would meet in the
 * same sets of the cache. */
static size_t off_page(size_t floats) { return floats % 1024 == 0 ? floats + 32 : floats; }

enum {
    FAR_BYTES = 10 << 20
}; /* about a share of L3; LSTM 512, 8 MiB, gains nothing with 2 and 3 rows */

void fr_take_weights(struct fr_matrix *const *matrices, int count, struct fr_arena *arena) {
    size_t first[FR_TOGETHER], block = 0, last = 0;
    for (int i = 0; i < count; i++) {
        const struct fr_matrix *m = matrices[i];
        first[i] = block;
        if (m->outputs == 0) continue;
        last = block + block_elements(m, m->blocks - 1);
        block += block_elements(m, 0);
    }
    const size_t stride = off_page(block), blocks = (size_t)matrices[0]->blocks;
    const size_t elements = (blocks - 1) * stride + last;
    float *weights = fr_take(arena, elements, sizeof *weights);
    for (int i = 0; i < count; i++) {
        matrices[i]->far = matrices[i]->chains == 1 && elements * sizeof *weights > FAR_BYTES;
        matrices[i]->stride = stride;
        matrices[i]->data = weights ? weights + first[i] : NULL;
    }
}

void fr_lay_out_matrix(struct fr_matrix *m, int32_t inputs, int32_t outputs,
                       struct fr_arena *arena) {
    *m = fr_matrix_of(inputs, outputs, FR_ROW);
    fr_take_weights(&m, 1, arena);
    m->bias = fr_take(arena, (size_t)m->blocks * FR_ROW, sizeof *m->bias);
}

/* ---- packing ----------------------------------------------------------------------------- */

static float *weights_at(const struct fr_matrix *m, int32_t output) {
    return (float *)m->data + (size_t)(output / m->width) * m->stride + output % m->width;
}

/* In squares that stay in L1. */
void fr_pack_outputs(const struct fr_matrix *m, int32_t output, int32_t rows, const float *W) {
    const size_t K = (size_t)m->inputs, width = (size_t)stored_width(m, output / m->width);
    float *to = weights_at(m, output);
    for (size_t k0 = 0; k0 < K; k0 += FR_GROUP) {
        const size_t end = K - k0 < FR_GROUP ? K : k0 + FR_GROUP;
        for (size_t i = 0; i < (size_t)rows; i++) {
            for (size_t k = k0; k < end; k++) to[k * width + i] = W[i * K + k];
        }
    }
}

void fr_pack_input(const struct fr_matrix *m, int32_t k, const float *W) {
    for (int32_t block = 0, at = 0; block < m->blocks; block++, at += m->width) {
        const int32_t count = m->outputs - at < m->width ? m->outputs - at : m->width;
        memcpy(weights_at(m, at) + (size_t)k * (size_t)stored_width(m, block), W + at,
               (size_t)count * sizeof *W);
    }
}

float *fr_weight_at(const struct fr_matrix *m, int32_t input, int32_t output) {
    const size_t width = (size_t)stored_width(m, output / m->width);
    return weights_at(m, output) + (size_t)input * width;
}

void fr_pack_matrix(const struct fr_matrix *m, const float *W, const float *b) {
    for (int32_t o = 0; o < m->outputs; o += FR_GROUP) {
        const int32_t rows = m->outputs - o < FR_GROUP ? m->outputs - o : FR_GROUP;
        fr_pack_outputs(m, o, rows, W + (size_t)o * (size_t)m->inputs);
    }
    for (int32_t o = 0; o < m->outputs; o++) m->bias[o] = b ? b[o] : 0.0f;
}

void fr_pack_transposed(const struct fr_matrix *m, const float *W) {
    for (int32_t k = 0; k < m->inputs; k++) fr_pack_input(m, k, W + (size_t)k * (size_t)m->outputs);
}
