/* Streams: one time step of a whole stack, on memory that was laid out once. */
#include "stream.h"
#include "team.h"

#include <string.h>

struct fr_state {
    struct fr_rows rows;
    struct fr_stack_slot layout;
    struct fr_step_memory memory;
};

enum { HEADER = FR_GROUP }; /* floats before the first layer of a slot */

static size_t padded(int64_t n) { return (size_t)((n + FR_GROUP - 1) / FR_GROUP * FR_GROUP); }

static int32_t *newest_of(float *slot) { return (int32_t *)slot; }

/* ---- rows of slots ----------------------------------------------------------------------- */

void fr_lay_out_rows(struct fr_rows *rows, size_t floats, int64_t capacity,
                     struct fr_arena *arena) {
    const size_t N = (size_t)capacity;
    const struct fr_arena start = *arena;
    struct fr_rows out = {.count = (int32_t)capacity, .capacity = (int32_t)capacity};
    fr_take(arena, floats, sizeof(float));
    out.stride = arena->used - start.used;
    if (out.stride % 4096 == 0) out.stride += FR_ALIGNMENT; /* slots would share their sets of L1 */
    *arena = start;
    out.base = fr_take(arena, N, out.stride);
    out.slot = fr_take(arena, N, sizeof *out.slot);
    out.spare = fr_take(arena, N, sizeof *out.spare);
    out.taken = fr_take(arena, N, sizeof *out.taken);
    if (!arena->base) return;
    for (int64_t n = 0; n < capacity; n++) out.slot[n] = fr_slot_at(&out, n);
    *rows = out;
}

static size_t number_of(const struct fr_rows *rows, const float *slot) {
    return (size_t)((const char *)slot - rows->base) / rows->stride;
}

void fr_reorder_rows(struct fr_rows *rows, const int64_t *indices, int64_t count) {
    float **old = rows->slot, **new = rows->spare;
    memset(rows->taken, 0, (size_t)rows->capacity);
    for (int64_t n = 0; n < count; n++) {
        uint8_t *taken = &rows->taken[number_of(rows, old[indices[n]])];
        new[n] = *taken ? NULL : old[indices[n]];
        *taken = 1;
    }
    size_t next = 0; /* all free slots stand from here on */
    for (int64_t n = 0; n < count; n++) {
        if (new[n]) continue;
        while (rows->taken[next]) next++;
        new[n] = fr_slot_at(rows, (int64_t)next++);
        memcpy(new[n], old[indices[n]], rows->stride);
    }
    rows->slot = new, rows->spare = old, rows->count = (int32_t)count;
}

/* ---- the slot of a stack ----------------------------------------------------------------- */

struct fr_stack_slot fr_lay_out_slot(const fr_model *model) {
    const fr_shape *s = &model->shape;
    struct fr_stack_slot out = {.states = (int64_t)s->num_layers * s->num_directions,
                                .h_stride = padded(fr_output_size(s)),
                                .c_stride = fr_unit_row(&model->layers[0])};
    out.layer = 2 * out.h_stride + (fr_cells[s->cell].info.states == 2 ? out.c_stride : 0);
    out.floats = HEADER + (size_t)out.states * out.layer;
    return out;
}

static float *layer_of(const struct fr_stack_slot *layout, float *slot, int64_t layer) {
    return slot + HEADER + (size_t)layer * layout->layer;
}

/* Place of a part of a layer now. */
static float *part_of(const struct fr_stack_slot *layout, float *slot, int64_t layer,
                      int32_t part) {
    const size_t which = part ? 2 : (size_t)*newest_of(slot);
    return layer_of(layout, slot, layer) + which * layout->h_stride;
}

void fr_write_part(const fr_model *model, int32_t part, int64_t rows, float *const *slot,
                   const float *values, int repeated) {
    const struct fr_stack_slot layout = fr_lay_out_slot(model);
    const size_t width = (size_t)fr_part_width(model, part);
    for (int64_t layer = 0; layer < layout.states; layer++) {
        for (int64_t n = 0; n < rows; n++) {
            float *to = part_of(&layout, slot[n], layer, part);
            const size_t at = (size_t)(repeated ? layer : layer * rows + n) * width;
            if (values) memcpy(to, values + at, width * sizeof *to);
            else memset(to, 0, width * sizeof *to);
        }
    }
}

void fr_read_part(const fr_model *model, int32_t part, int64_t rows, float *const *slot,
                  float *values) {
    const struct fr_stack_slot layout = fr_lay_out_slot(model);
    const size_t width = (size_t)fr_part_width(model, part);
    for (int64_t layer = 0; layer < layout.states; layer++) {
        for (int64_t n = 0; n < rows; n++, values += width)
            memcpy(values, part_of(&layout, slot[n], layer, part), width * sizeof *values);
    }
}

/* ---- steps ------------------------------------------------------------------------------- */

void fr_lay_out_step(const fr_model *model, int64_t rows, struct fr_step_memory *memory,
                     struct fr_arena *arena) {
    const struct fr_layer *l = &model->layers[0];
    const fr_cell_info *cell = &fr_cells[l->cell].info;
    const size_t N = (size_t)rows, unit_row = fr_unit_row(l), gate_row = fr_gate_row(l);
    struct fr_step_memory out = {0};
    if (cell->phases == 2) {
        out.gate_row = gate_row;
        out.activated = fr_take(arena, fr_times(N, gate_row), sizeof(float));
        out.saved = fr_take(arena, N, sizeof *out.saved);
    }
    if (cell->phases == 2 || l->projection.outputs)
        out.u = fr_take(arena, fr_times(N, unit_row), sizeof(float));
    out.in = fr_take(arena, N, sizeof *out.in);
    out.gates = fr_take(arena, N, sizeof *out.gates);
    out.h0 = fr_take(arena, N, sizeof *out.h0);
    out.h1 = fr_take(arena, N, sizeof *out.h1);
    out.out = fr_take(arena, N, sizeof *out.out);
    out.c = fr_take(arena, N, sizeof *out.c);
    if (arena->base) *memory = out;
}

/* Places of a layer's rows. */
static void find_rows(const struct fr_layer *l, const struct fr_stack_slot *layout,
                      const struct fr_step_memory *m, int64_t layer, int64_t rows,
                      float *const *slot) {
    const size_t h_stride = layout->h_stride;
    for (int64_t n = 0; n < rows; n++) {
        float *h = layer_of(layout, slot[n], layer);
        const int newest = *newest_of(slot[n]);
        float *out = newest ? h : h + h_stride;
        m->h0[n] = newest ? h + h_stride : h;
        m->out[n] = out;
        m->h1[n] = l->projection.outputs ? m->u + (size_t)n * layout->c_stride : out;
        m->c[n] = h + 2 * h_stride;
    }
}

static void project(const struct fr_kernels *kernels, const struct fr_layer *l,
                    const struct fr_step_memory *m, int64_t rows) {
    const struct fr_product product = {
        .matrix = &l->projection,
        .x = (const float *const *)m->h1,
        .y = m->out,
        .rows = rows,
        .begin = 0,
        .end = l->projection.blocks,
    };
    kernels->product(&product);
}

void fr_step_slots(const fr_model *model, const struct fr_stack_slot *layout,
                   const struct fr_step_memory *m, int64_t rows, float *const *slot, int folded) {
    const struct fr_kernels *kernels = fr_active_kernels();
    const struct fr_cell_kernels *cell = fr_cell_kernels(kernels, &model->layers[0]);
    struct fr_step step = {
        .x = folded ? NULL : m->in,
        .gates = folded ? m->gates : NULL,
        .h0 = m->h0,
        .h1 = m->h1,
        .c0 = (const float *const *)m->c,
        .c1 = m->c,
        .saved = m->saved,
        .u = m->u,
        .rows = (int32_t)rows,
        .reversed = *newest_of(slot[0]),
    };
    for (int64_t n = 0; m->saved && n < rows; n++)
        m->saved[n] = m->activated + (size_t)n * m->gate_row;
    for (int64_t layer = 0; layer < model->shape.num_layers; layer++) {
        const struct fr_layer *l = &model->layers[layer];
        find_rows(l, layout, m, layer, rows, slot);
        step.layer = l, step.end = l->blocks;
        cell->step(&step);
        if (cell->second) cell->second(&step);
        if (l->projection.outputs) project(kernels, l, m, rows);
        for (int64_t n = 0; n < rows; n++) m->in[n] = m->out[n]; /* the next layer's input */
        step.x = m->in, step.gates = NULL;
    }
    for (int64_t n = 0; n < rows; n++) *newest_of(slot[n]) ^= 1;
}

/* ---- streams of a bare stack ------------------------------------------------------------- */

static fr_state *lay_out(const fr_model *model, int64_t rows, struct fr_arena *arena) {
    fr_state *state = fr_take(arena, 1, sizeof *state), scratch;
    fr_state *out = state ? state : &scratch;
    out->layout = fr_lay_out_slot(model);
    fr_lay_out_rows(&out->rows, out->layout.floats, rows, arena);
    fr_lay_out_step(model, rows, &out->memory, arena);
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

void fr_state_set(const fr_model *model, fr_state *state, const float *h, const float *c) {
    fr_write_part(model, 0, state->rows.count, state->rows.slot, h, 0);
    fr_write_part(model, 1, state->rows.count, state->rows.slot, c, 0);
}

void fr_state_get(const fr_model *model, const fr_state *state, float *h, float *c) {
    if (h) fr_read_part(model, 0, state->rows.count, state->rows.slot, h);
    if (c) fr_read_part(model, 1, state->rows.count, state->rows.slot, c);
}

int64_t fr_state_rows(const fr_state *state) { return state->rows.count; }

void fr_state_reorder(fr_state *state, const int64_t *indices, int64_t rows) {
    fr_reorder_rows(&state->rows, indices, rows);
}

static void step(const fr_model *model, fr_state *state, int folded, float *y) {
    const size_t R = (size_t)fr_output_size(&model->shape);
    const int64_t rows = state->rows.count;
    if (rows == 0) return;
    const uint64_t mode = fr_float_mode_enter();
    fr_step_slots(model, &state->layout, &state->memory, rows, state->rows.slot, folded);
    fr_float_mode_restore(mode);
    for (int64_t n = 0; y && n < rows; n++)
        memcpy(y + (size_t)n * R, state->memory.in[n], R * sizeof *y);
}

void fr_step(const fr_model *model, fr_state *state, const float *x, float *y) {
    const size_t I = (size_t)model->shape.input_size;
    for (size_t n = 0; n < (size_t)state->rows.count; n++) state->memory.in[n] = x + n * I;
    step(model, state, 0, y);
}

void fr_step_tokens(const fr_model *model, fr_state *state, const float *table,
                    const int64_t *tokens, float *y) {
    const size_t row = fr_gate_row(&model->layers[0]);
    for (size_t n = 0; n < (size_t)state->rows.count; n++)
        state->memory.gates[n] = table + (size_t)tokens[n] * row;
    step(model, state, 1, y);
}
