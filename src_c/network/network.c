/* A stream with what comes before and behind it: tokens, attention over a memory, a head. */
#include "../include/fastrnn.h"
#include "../ops/activation.h"

#include <string.h>

/* h~ = tanh(W_c [context; h]) of all rows, into hidden. */
static void attend(fr_look *l, int64_t rows, const float *h, int64_t h_stride) {
    fr_attention *a = &l->attention;
    const size_t M = (size_t)a->features, R = (size_t)l->units, width = M + R;
    a->rows = rows;
    fr_linear_forward(l->query, rows, h, h_stride, l->queries, a->size, 1);
    fr_attend(a, 1);
    for (size_t n = 0; n < (size_t)rows; n++) {
        memcpy(l->joined + n * width, a->context + n * M, M * sizeof *h);
        memcpy(l->joined + n * width + M, h + n * (size_t)h_stride, R * sizeof *h);
    }
    fr_linear_forward(l->combine, rows, l->joined, (int64_t)width, l->hidden, l->units, 1);
    const fr_activation squash = {.function = FR_ACTIVATION_tanh,
                                  .rows = rows,
                                  .size = l->units,
                                  .x = l->hidden,
                                  .y = l->hidden};
    fr_activate(&squash, 1);
}

/* Input feeding: [embedding; h~ of the step before]. */
static const float *fed_inputs(const fr_network *n, int64_t rows, const int64_t *tokens) {
    const fr_look *l = n->look;
    const size_t R = (size_t)l->units, E = (size_t)l->fed_size, width = E + R;
    for (size_t i = 0; i < (size_t)rows; i++) {
        memcpy(l->inputs + i * width, n->embedding + (size_t)tokens[i] * E, E * sizeof *l->inputs);
        memcpy(l->inputs + i * width + E, l->hidden + i * R, R * sizeof *l->inputs);
    }
    return l->inputs;
}

static void step_layers(const fr_network *n, int64_t rows, const float *x, const int64_t *tokens,
                        float *y) {
    if (!tokens) fr_step(n->model, n->state, x, y);
    else if (n->look && n->look->inputs)
        fr_step(n->model, n->state, fed_inputs(n, rows, tokens), y);
    else if (n->table) fr_step_tokens(n->model, n->state, n->table, tokens, y);
    else fr_step_embedded(n->model, n->state, n->embedding, tokens, y);
}

/* y (N, outputs): what is listed from `from` (N, K), -inf elsewhere. */
static void spread(const fr_network *n, int64_t rows, const float *from, float *y) {
    for (int64_t i = 0; i < rows; i++, y += n->outputs, from += n->num_listed) {
        for (int32_t v = 0; v < n->outputs; v++) y[v] = -__builtin_inff();
        for (int32_t k = 0; k < n->num_listed; k++) y[n->listed[k]] = from[k];
    }
}

void fr_network_step(const fr_network *n, const float *x, const int64_t *tokens, float *y) {
    const int64_t rows = fr_state_rows(n->state);
    step_layers(n, rows, x, tokens, n->head ? NULL : y);
    const float *h = fr_state_output(n->model, n->state, 0);
    int64_t stride = rows > 1 ? fr_state_output(n->model, n->state, 1) - h : 0;
    if (n->look && (y || n->look->inputs)) {
        attend(n->look, rows, h, stride);
        h = n->look->hidden, stride = n->look->units;
    }
    if (!n->head || !y) return;
    if (n->listed) {
        fr_linear_forward(n->head, rows, h, stride, n->short_outputs, n->num_listed, 1);
        spread(n, rows, n->short_outputs, y);
    } else {
        fr_linear_forward(n->head, rows, h, stride, y, n->outputs, 1);
    }
}

void fr_network_read(const fr_network *n, int64_t steps, const int64_t *tokens) {
    for (int64_t t = 0; t < steps; t++)
        fr_network_step(n, NULL, tokens + t * fr_state_rows(n->state), NULL);
}

/* What is copied row by row meets in memory that is free between two steps. */
static void reorder_look(fr_look *l, const int64_t *indices, int64_t rows) {
    const size_t R = (size_t)l->units, S = (size_t)l->attention.positions, N = (size_t)rows;
    int64_t *sources = l->spare_sources;
    float *weights = l->spare_weights;
    for (size_t n = 0; n < N; n++) {
        const size_t from = (size_t)indices[n];
        sources[n] = l->sources[from];
        memcpy(l->joined + n * R, l->hidden + from * R, R * sizeof *weights);
        memcpy(weights + n * S, l->attention.weights + from * S, S * sizeof *weights);
    }
    memcpy(l->sources, sources, N * sizeof *sources);
    memcpy(l->hidden, l->joined, N * R * sizeof *weights);
    l->spare_weights = l->attention.weights;
    l->attention.weights = weights;
}

void fr_network_reorder(const fr_network *n, const int64_t *indices, int64_t rows) {
    fr_state_reorder(n->model, n->state, indices, rows);
    if (n->look) reorder_look(n->look, indices, rows);
}
