/* Streams: one time step of a whole stack, on memory that was laid out once. The h of all layers
 * exists twice, for the units of a layer read the old h of each other while they write the new. */
#include "model.h"
#include "team.h"

#include <string.h>

struct fr_state {
    int32_t rows;     /* in use */
    int32_t capacity; /* N: rows that there is room for */
    int32_t newest;   /* which of the two h is current */
    size_t h_stride, c_stride;
    float *h[2];   /* (L, N, h_stride) */
    float *c;      /* (L, N, c_stride), LSTM */
    float **saved; /* (N) -> (blocks, slots, U), cells with two phases */
    float *u;      /* (N, blocks * U): r * h0, or an LSTM's output before its projection */
    const float **in, **h0, **gates;
    float **h1, **out, **c_rows;
};

static size_t padded(int64_t n) { return (size_t)((n + FR_GROUP - 1) / FR_GROUP * FR_GROUP); }

static fr_state *lay_out(const fr_model *model, int64_t rows, struct fr_arena *arena) {
    const fr_shape *s = &model->shape;
    const struct fr_layer *l = &model->layers[0];
    const fr_cell_info *cell = &fr_cells[s->cell].info;
    const size_t N = (size_t)rows, L = (size_t)s->num_layers, unit_row = fr_unit_row(l);
    fr_state *state = fr_take(arena, 1, sizeof *state);
    fr_state out = {.rows = (int32_t)rows,
                    .capacity = (int32_t)rows,
                    .h_stride = padded(fr_output_size(s)),
                    .c_stride = unit_row};
    for (int i = 0; i < 2; i++) out.h[i] = fr_take(arena, L * N * out.h_stride, sizeof(float));
    if (cell->states == 2) out.c = fr_take(arena, L * N * unit_row, sizeof(float));
    if (cell->phases == 2) {
        float *gates = fr_take(arena, N * fr_gate_row(l), sizeof(float));
        out.saved = fr_take(arena, N, sizeof *out.saved);
        for (size_t n = 0; state && n < N; n++) out.saved[n] = gates + n * fr_gate_row(l);
    }
    if (cell->phases == 2 || s->proj_size) out.u = fr_take(arena, N * unit_row, sizeof(float));
    out.in = fr_take(arena, N, sizeof *out.in);
    out.h0 = fr_take(arena, N, sizeof *out.h0);
    out.gates = fr_take(arena, N, sizeof *out.gates);
    out.h1 = fr_take(arena, N, sizeof *out.h1);
    out.c_rows = fr_take(arena, N, sizeof *out.c_rows);
    out.out = fr_take(arena, N, sizeof *out.out);
    if (state) *state = out;
    return state;
}

size_t fr_state_size(const fr_model *model, int64_t rows) {
    if (model->shape.num_directions != 1 || rows < 0 || rows > INT32_MAX) return 0;
    struct fr_arena arena = {NULL, 0};
    lay_out(model, rows, &arena);
    return fr_used(&arena);
}

fr_state *fr_state_create(const fr_model *model, int64_t rows, void *memory) {
    const size_t size = fr_state_size(model, rows);
    if (size == 0) return NULL;
    struct fr_arena arena = {memory, 0};
    memset(memory, 0, size);
    return lay_out(model, rows, &arena);
}

static void copy_rows(float *to, size_t to_stride, const float *from, size_t from_stride,
                      size_t rows, size_t width) {
    for (size_t n = 0; n < rows; n++) {
        if (from) memcpy(to + n * to_stride, from + n * from_stride, width * sizeof *to);
        else memset(to + n * to_stride, 0, width * sizeof *to);
    }
}

static float *h_of(const fr_state *state, size_t layer) {
    return state->h[state->newest] + layer * (size_t)state->capacity * state->h_stride;
}

static float *c_of(const fr_state *state, size_t layer) {
    return state->c + layer * (size_t)state->capacity * state->c_stride;
}

void fr_state_set(const fr_model *model, fr_state *state, const float *h, const float *c) {
    const fr_shape *s = &model->shape;
    const size_t R = (size_t)fr_output_size(s), H = (size_t)s->hidden_size;
    const size_t rows = (size_t)state->rows;
    for (size_t layer = 0; layer < (size_t)s->num_layers; layer++) {
        copy_rows(h_of(state, layer), state->h_stride, h ? h + layer * rows * R : NULL, R, rows, R);
        if (state->c)
            copy_rows(c_of(state, layer), state->c_stride, c ? c + layer * rows * H : NULL, H, rows,
                      H);
    }
}

void fr_state_get(const fr_model *model, const fr_state *state, float *h, float *c) {
    const fr_shape *s = &model->shape;
    const size_t R = (size_t)fr_output_size(s), H = (size_t)s->hidden_size;
    const size_t rows = (size_t)state->rows;
    for (size_t layer = 0; layer < (size_t)s->num_layers; layer++) {
        if (h) copy_rows(h + layer * rows * R, R, h_of(state, layer), state->h_stride, rows, R);
        if (c && state->c)
            copy_rows(c + layer * rows * H, H, c_of(state, layer), state->c_stride, rows, H);
    }
}

int64_t fr_state_rows(const fr_state *state) { return state->rows; }

const float *fr_state_output(const fr_model *model, const fr_state *state, int64_t row) {
    return h_of(state, (size_t)(model->shape.num_layers - 1)) + (size_t)row * state->h_stride;
}

/* to[n] = from[indices[n]], rows of `stride` floats. */
static void gather_rows(float *to, const float *from, size_t stride, const int64_t *indices,
                        size_t rows) {
    for (size_t n = 0; n < rows; n++) {
        memcpy(to + n * stride, from + (size_t)indices[n] * stride, stride * sizeof *to);
    }
}

/* The new h go where the next step would put its own. c exists once: its rows meet in memory that
 * is free until that step, the h that have just been left or, where those are narrower, u. */
void fr_state_reorder(const fr_model *model, fr_state *state, const int64_t *indices,
                      int64_t rows) {
    const size_t L = (size_t)model->shape.num_layers, N = (size_t)rows;
    const float *left = h_of(state, 0);
    float *spare = model->shape.proj_size ? state->u : state->h[state->newest];
    const size_t h_layer = (size_t)state->capacity * state->h_stride;
    state->newest = 1 - state->newest;
    for (size_t layer = 0; layer < L; layer++) {
        gather_rows(h_of(state, layer), left + layer * h_layer, state->h_stride, indices, N);
    }
    for (size_t layer = 0; state->c && layer < L; layer++) {
        gather_rows(spare, c_of(state, layer), state->c_stride, indices, N);
        memcpy(c_of(state, layer), spare, N * state->c_stride * sizeof *spare);
    }
    state->rows = (int32_t)rows;
}

/* One layer: state->in (or state->gates, when `folded`) holds its input rows already. */
static void step_layer(const struct fr_kernels *kernels, const struct fr_layer *l, fr_state *state,
                       size_t layer, int folded) {
    const size_t N = (size_t)state->rows, first = layer * (size_t)state->capacity;
    const int old = state->newest;
    const int projected = l->projection.outputs != 0;
    for (size_t n = 0; n < N; n++) {
        state->h0[n] = state->h[old] + (first + n) * state->h_stride;
        state->out[n] = state->h[1 - old] + (first + n) * state->h_stride;
        state->h1[n] = projected ? state->u + n * state->c_stride : state->out[n];
        if (state->c) state->c_rows[n] = state->c + (first + n) * state->c_stride;
    }
    const struct fr_step step = {
        .layer = l,
        .x = folded ? NULL : state->in,
        .gates = folded ? state->gates : NULL,
        .h0 = state->h0,
        .h1 = state->h1,
        .c0 = (const float *const *)state->c_rows,
        .c1 = state->c_rows,
        .saved = state->saved,
        .u = state->u,
        .rows = state->rows,
        .begin = 0,
        .end = l->blocks,
        .reversed = old,
    };
    const struct fr_cell_kernels *cell = fr_cell_kernels(kernels, l);
    cell->step(&step);
    if (cell->second) cell->second(&step);
    if (projected) {
        const struct fr_product product = {
            .matrix = &l->projection,
            .x = (const float *const *)state->h1,
            .y = state->out,
            .rows = state->rows,
            .begin = 0,
            .end = l->projection.blocks,
        };
        kernels->product(&product);
    }
    for (size_t n = 0; n < N; n++) state->in[n] = state->out[n]; /* the next layer's input */
}

static void step(const fr_model *model, fr_state *state, int folded, float *y) {
    const struct fr_kernels *kernels = fr_active_kernels();
    const uint64_t mode = fr_float_mode_enter();
    for (int32_t layer = 0; layer < model->shape.num_layers; layer++) {
        step_layer(kernels, &model->layers[layer], state, (size_t)layer, folded && layer == 0);
    }
    fr_float_mode_restore(mode);
    state->newest = 1 - state->newest;
    const size_t R = (size_t)fr_output_size(&model->shape);
    for (int32_t n = 0; y && n < state->rows; n++)
        memcpy(y + (size_t)n * R, state->in[n], R * sizeof *y);
}

void fr_step(const fr_model *model, fr_state *state, const float *x, float *y) {
    const size_t I = (size_t)model->shape.input_size;
    for (size_t n = 0; n < (size_t)state->rows; n++) state->in[n] = x + n * I;
    step(model, state, 0, y);
}

void fr_step_tokens(const fr_model *model, fr_state *state, const float *table,
                    const int64_t *tokens, float *y) {
    const size_t row = fr_gate_row(&model->layers[0]);
    for (size_t n = 0; n < (size_t)state->rows; n++)
        state->gates[n] = table + (size_t)tokens[n] * row;
    step(model, state, 1, y);
}

void fr_step_embedded(const fr_model *model, fr_state *state, const float *embedding,
                      const int64_t *tokens, float *y) {
    const size_t I = (size_t)model->shape.input_size;
    for (size_t n = 0; n < (size_t)state->rows; n++)
        state->in[n] = embedding + (size_t)tokens[n] * I;
    step(model, state, 0, y);
}
