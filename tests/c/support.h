/* Shared by the C tests: a generator, aligned memory, hashes, and a plain float64 reference of
 * every cell, written without regard to speed. */
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

/* ---- the reference ----------------------------------------------------------------------- */

static inline double sigmoid64(double x) { return 1.0 / (1.0 + exp(-x)); }

static inline const float *parameter(const fr_shape *s, const float *p, const char *name, int layer,
                                     int reverse) {
    char full[48];
    fr_tensor tensor;
    snprintf(full, sizeof full, "%s_l%d%s", name, layer, reverse ? "_reverse" : "");
    for (int i = 0; fr_parameter(s, i, &tensor); i++) {
        if (strcmp(tensor.name, full) == 0) return p + tensor.offset;
    }
    return NULL;
}

static inline double row_product(const float *W, size_t row, const double *x, int n) {
    double sum = 0;
    for (int k = 0; W && k < n; k++) sum += (double)W[row * (size_t)n + (size_t)k] * x[k];
    return sum;
}

/* One step of one row: h (R) and c (H) are updated in place. */
static inline void reference_step(const fr_shape *s, const float *p, int layer, int reverse,
                                  const double *x, int inputs, double *h, double *c) {
    const int H = s->hidden_size, R = s->proj_size ? s->proj_size : H;
    const float *W = parameter(s, p, "weight_ih", layer, reverse),
                *U = parameter(s, p, "weight_hh", layer, reverse);
    const float *b = parameter(s, p, "bias_ih", layer, reverse),
                *d = parameter(s, p, "bias_hh", layer, reverse);
    const float *peep = parameter(s, p, "weight_ch", layer, reverse),
                *V = parameter(s, p, "weight_hr", layer, reverse);
    double *out = malloc((size_t)H * sizeof *out), *reset = malloc((size_t)H * sizeof *reset);
#define X(gate) \
    (row_product(W, (size_t)((gate) * H + u), x, inputs) + (b ? b[(gate) * H + u] : 0.0))
#define HH(gate, with) \
    (row_product(U, (size_t)((gate) * H + u), with, R) + (d ? d[(gate) * H + u] : 0.0))
    const int before = s->cell == fr_cell("gru_reset_before");
    for (int u = 0; u < H && before; u++) reset[u] = sigmoid64(X(0) + HH(0, h)) * h[u];
    for (int u = 0; u < H; u++) {
        if (s->cell == fr_cell("rnn_tanh")) out[u] = tanh(X(0) + HH(0, h));
        if (s->cell == fr_cell("rnn_relu")) out[u] = fmax(0.0, X(0) + HH(0, h));
        if (s->cell == fr_cell("rnn_sigmoid")) out[u] = sigmoid64(X(0) + HH(0, h));
        if (s->cell == fr_cell("rnn_identity")) out[u] = X(0) + HH(0, h);
        if (s->cell == fr_cell("lstm") || s->cell == fr_cell("lstm_peephole")) {
            const double i = sigmoid64(X(0) + HH(0, h) + (peep ? peep[u] * c[u] : 0.0));
            const double f = sigmoid64(X(1) + HH(1, h) + (peep ? peep[H + u] * c[u] : 0.0));
            c[u] = f * c[u] + i * tanh(X(2) + HH(2, h));
            out[u] =
                sigmoid64(X(3) + HH(3, h) + (peep ? peep[2 * H + u] * c[u] : 0.0)) * tanh(c[u]);
        }
        if (s->cell == fr_cell("gru")) {
            const double r = sigmoid64(X(0) + HH(0, h)), z = sigmoid64(X(1) + HH(1, h));
            out[u] = z * h[u] + (1.0 - z) * tanh(X(2) + r * HH(2, h));
        }
        if (before) {
            const double z = sigmoid64(X(1) + HH(1, h));
            out[u] = z * h[u] + (1.0 - z) * tanh(X(2) + HH(2, reset));
        }
    }
#undef X
#undef HH
    for (int r = 0; r < R; r++) h[r] = s->proj_size ? row_product(V, (size_t)r, out, H) : out[r];
    free(out);
    free(reset);
}

/* A whole stack on one row: x (T, I) -> y (T, F); h0, hn (L*D, R), c0, cn (L*D, H). */
static inline void reference(const fr_shape *s, const float *p, int T, const double *x, double *y,
                             const double *h0, const double *c0, double *hn, double *cn) {
    const int R = s->proj_size ? s->proj_size : s->hidden_size, H = s->hidden_size,
              D = s->num_directions;
    const int F = R * (D == 2 && !s->merge_sum ? 2 : 1),
              most = F > s->input_size ? F : s->input_size;
    double *in = calloc((size_t)(T * most + 1), sizeof *in);
    int inputs = s->input_size;
    memcpy(in, x, (size_t)(T * inputs) * sizeof *in);
    for (int layer = 0; layer < s->num_layers; layer++) {
        memset(y, 0, (size_t)(T * F) * sizeof *y);
        for (int d = 0; d < D; d++) {
            double *h = hn + (layer * D + d) * R, *c = cn + (layer * D + d) * H;
            memcpy(h, h0 + (layer * D + d) * R, (size_t)R * sizeof *h);
            memcpy(c, c0 + (layer * D + d) * H, (size_t)H * sizeof *c);
            for (int i = 0; i < T; i++) {
                const int t = d ? T - 1 - i : i;
                reference_step(s, p, layer, d, in + t * inputs, inputs, h, c);
                for (int r = 0; r < R; r++) y[t * F + (F > R ? d * R : 0) + r] += h[r];
            }
        }
        memcpy(in, y, (size_t)(T * F) * sizeof *in);
        inputs = F;
    }
    free(in);
}

#endif
