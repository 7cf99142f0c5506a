/* Operations without state: every row of a value from the same row of others. */
#include "network.h"

#include <string.h>

/* ---- channels ---------------------------------------------------------------------------- */

static void concatenate(const struct task *t, int64_t first, int64_t last) {
    const struct operation *o = t->operation;
    size_t at = 0;
    for (int32_t i = 0; i < o->given.num_inputs; i++) {
        const size_t width = (size_t)fr_input_of(t->network, o, i)->channels;
        const size_t all = (size_t)o->channels, L = (size_t)o->length;
        for (size_t v = (size_t)first * L; v < (size_t)last * L; v++)
            memcpy(t->y + v * all + at, fr_x(t, i) + v * width, width * sizeof *t->y);
        at += width;
    }
}

static void select_channels(const struct task *t, int64_t first, int64_t last) {
    const struct operation *o = t->operation;
    const size_t all = (size_t)fr_input_of(t->network, o, 0)->channels;
    const size_t width = (size_t)o->channels, L = (size_t)o->length;
    for (size_t v = (size_t)first * L; v < (size_t)last * L; v++)
        memcpy(t->y + v * width, fr_x(t, 0) + v * all + o->given.first, width * sizeof *t->y);
}

static void spread_listed(const struct task *t, int64_t first, int64_t last) {
    const struct operation *o = t->operation;
    const int32_t K = fr_input_of(t->network, o, 0)->channels, V = o->channels;
    for (int64_t r = first; r < last; r++) {
        const float *x = fr_x(t, 0) + r * K;
        float *y = t->y + r * V;
        for (int32_t v = 0; v < V; v++) y[v] = -__builtin_inff();
        for (int32_t k = 0; k < K; k++) y[o->given.listed[k]] = x[k];
    }
}

/* ---- two values -------------------------------------------------------------------------- */

/* One of the two may have a single vector, or a single channel, that stands for all. */
static void combine_uneven(const struct task *t, int multiply, int64_t first, int64_t last) {
    const struct operation *o = t->operation;
    const size_t L = (size_t)o->length, C = (size_t)o->channels;
    const struct operation *in[2] = {fr_input_of(t->network, o, 0), fr_input_of(t->network, o, 1)};
    for (size_t r = (size_t)first; r < (size_t)last; r++) {
        for (size_t i = 0; i < L * C; i++) {
            float v[2];
            for (int k = 0; k < 2; k++) {
                const size_t vector = in[k]->length == 1 ? 0 : i / C;
                const size_t channel = in[k]->channels == 1 ? 0 : i % C;
                v[k] = fr_x(t, k)[r * in[k]->width + vector * (size_t)in[k]->channels + channel];
            }
            t->y[r * o->width + i] = multiply ? v[0] * v[1] : v[0] + v[1];
        }
    }
}

static void combine_rows(const struct task *t, int multiply, int64_t first, int64_t last) {
    const struct operation *o = t->operation;
    const size_t at = (size_t)first * o->width, n = (size_t)(last - first) * o->width;
    if (fr_input_of(t->network, o, 0)->width != o->width ||
        fr_input_of(t->network, o, 1)->width != o->width) {
        combine_uneven(t, multiply, first, last);
    } else if (multiply) {
        fr_active_kernels()->multiply(fr_x(t, 0) + at, fr_x(t, 1) + at, t->y + at, n);
    } else {
        fr_active_kernels()->add(fr_x(t, 0) + at, fr_x(t, 1) + at, t->y + at, n);
    }
}

/* ---- one value --------------------------------------------------------------------------- */

static void normalize(const struct task *t, int64_t first, int64_t last) {
    const struct operation *o = t->operation;
    const size_t at = (size_t)first * o->width;
    const fr_norm norm = {
        .rows = (last - first) * o->length,
        .size = o->channels,
        .x = fr_x(t, 0) + at,
        .weight = o->given.scale,
        .bias = o->given.shift,
        .y = t->y + at,
        .eps = o->given.eps,
    };
    fr_active_kernels()->layer_norm(&norm, 0, norm.rows);
}

static void activate(const struct task *t, int64_t first, int64_t last) {
    const struct operation *o = t->operation, *x = fr_input_of(t->network, o, 0);
    const fr_activation call = {
        .function = o->given.function,
        .a = o->given.alpha,
        .b = o->given.beta,
        .rows = (last - first) * o->length,
        .size = o->channels,
        .x = fr_x(t, 0) + (size_t)first * x->width,
        .y = t->y + (size_t)first * o->width,
    };
    fr_activate_here(&call);
}

static void apply_channels(const struct task *t, int64_t first, int64_t last) {
    const struct operation *o = t->operation;
    const fr_channels call = {
        .rule = o->given.function,
        .rows = (last - first) * o->length,
        .size = o->channels,
        .x = fr_x(t, 0) + (size_t)first * o->width,
        .weight = o->given.scale,
        .bias = o->given.shift,
        .y = t->y + (size_t)first * o->width,
    };
    fr_active_kernels()->channels(&call, 0, call.rows);
}

static void take_embedded(const struct task *t, int64_t first, int64_t last) {
    const int64_t *tokens = (const int64_t *)(const void *)fr_x(t, 0);
    const size_t width = t->operation->width;
    for (int64_t r = first; r < last; r++)
        memcpy(t->y + (size_t)r * width, t->operation->given.table + (size_t)tokens[r] * width,
               width * sizeof *t->y);
}

static void run_linear(const struct task *t, int64_t first, int64_t last) {
    const struct fr_matrix *m = &t->operation->given.linear->matrix;
    const int64_t L = t->operation->length;
    fr_linear_rows(m, first * L, last * L, fr_x(t, 0), m->inputs, t->y, m->outputs, 0, m->blocks);
}

void fr_run_rows(const struct task *t, int64_t first, int64_t last) {
    const struct operation *o = t->operation;
    const size_t at = (size_t)first * o->width, n = (size_t)(last - first) * o->width;
    switch (o->given.kind) {
    case FR_OP_EMBED:
        take_embedded(t, first, last);
        break;
    case FR_OP_LINEAR:
        run_linear(t, first, last);
        break;
    case FR_OP_ADD:
        combine_rows(t, 0, first, last);
        break;
    case FR_OP_MULTIPLY:
        combine_rows(t, 1, first, last);
        break;
    case FR_OP_CONCATENATE:
        concatenate(t, first, last);
        break;
    case FR_OP_SELECT:
        select_channels(t, first, last);
        break;
    case FR_OP_LAYER_NORM:
        normalize(t, first, last);
        break;
    case FR_OP_RESHAPE:
        memcpy(t->y + at, fr_x(t, 0) + at, n * sizeof *t->y);
        break;
    case FR_OP_LISTED:
        spread_listed(t, first, last);
        break;
    case FR_OP_ACTIVATE:
        activate(t, first, last);
        break;
    case FR_OP_CHANNELS:
        apply_channels(t, first, last);
        break;
    }
}
