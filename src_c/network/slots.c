/* States of live streams, slot by slot: creation, reset, copies, reading and writing of parts. */
#include "slots.h"

#include <string.h>

static size_t at_least(size_t a, size_t b) { return a > b ? a : b; }

/* Workspace of a step, free again after each operation: so all of them begin at one place. */
static void lay_out_scratch(const fr_network *n, int64_t capacity, fr_slots *out,
                            struct fr_arena *arena) {
    const struct fr_arena start = *arena;
    for (int32_t i = 0; i < n->num_operations; i++) {
        const fr_operation *g = &n->operations[i].given;
        struct fr_arena mine = start;
        if (g->kind == FR_OP_RECURRENT) {
            struct fr_step_memory unused;
            fr_lay_out_step(g->model, capacity, out ? &out->memory[i] : &unused, &mine);
        } else if (g->kind == FR_OP_ATTEND) {
            const size_t S = (size_t)g->attention->positions;
            int64_t *sources = fr_take(&mine, (size_t)capacity, sizeof *sources);
            float *weights = fr_take(&mine, fr_times((size_t)capacity, S), sizeof *weights);
            if (out) out->sources = sources, out->weights = weights;
        } else if (g->kind == FR_OP_CONV || g->kind == FR_OP_CONV_TIME) {
            void *workspace = fr_take(&mine, fr_conv_workspace_size(g->conv, 1), 1);
            if (out) out->workspace = workspace;
        }
        arena->used = at_least(arena->used, mine.used);
    }
}

static void lay_out_values(const fr_network *n, int64_t capacity, fr_slots *out,
                           struct fr_arena *arena) {
    for (int32_t b = 0; b < n->num_buffers; b++) {
        float *buffer =
            fr_take(arena, fr_times((size_t)capacity, n->buffer_size[b]), sizeof *buffer);
        for (int32_t i = 0; out && i < n->num_operations; i++)
            if (n->operations[i].buffer == b) out->own[i] = buffer;
    }
}

static fr_slots *lay_out(const fr_network *n, int64_t capacity, struct fr_arena *arena) {
    const size_t count = (size_t)n->num_operations, N = (size_t)capacity;
    fr_slots *s = fr_take(arena, 1, sizeof *s), unused;
    fr_slots *out = s ? s : &unused;
    fr_lay_out_rows(&out->rows, n->slot_size, capacity, arena);
    out->memory = fr_take(arena, count, sizeof *out->memory);
    out->own = fr_take(arena, count, sizeof *out->own);
    out->value = fr_take(arena, count, sizeof *out->value);
    out->chosen = fr_take(arena, N, sizeof *out->chosen);
    out->part = fr_take(arena, N, sizeof *out->part);
    out->in = fr_take(arena, N, sizeof *out->in);
    out->out = fr_take(arena, N, sizeof *out->out);
    lay_out_values(n, capacity, s, arena);
    lay_out_scratch(n, capacity, s, arena);
    return s;
}

size_t fr_slots_size(const fr_network *network, int64_t capacity) {
    if (capacity < 0 || capacity > INT32_MAX) return 0;
    struct fr_arena arena = {NULL, 0};
    lay_out(network, capacity, &arena);
    return fr_used(&arena);
}

fr_slots *fr_slots_create(const fr_network *network, int64_t capacity, void *memory) {
    const size_t size = fr_slots_size(network, capacity);
    if (size == 0) return NULL;
    struct fr_arena arena = {memory, 0};
    memset(memory, 0, size);
    fr_slots *slots = lay_out(network, capacity, &arena);
    fr_slots_reset(network, slots, capacity, NULL);
    return slots;
}

int64_t fr_slots_rows(const fr_slots *slots) { return slots->rows.count; }

void fr_slots_reorder(fr_slots *slots, const int64_t *indices, int64_t rows) {
    fr_reorder_rows(&slots->rows, indices, rows);
}

void fr_slots_copy(fr_slots *slots, int64_t from, int64_t to) {
    if (from == to) return;
    memcpy(fr_slot_at(&slots->rows, to), fr_slot_at(&slots->rows, from), slots->rows.stride);
}

/* ---- parts ------------------------------------------------------------------------------- */

int fr_network_part(const fr_network *network, int32_t operation, int32_t part, int64_t *states,
                    int64_t *width) {
    const struct operation *o = &network->operations[operation];
    *states = 1, *width = 0;
    if (o->given.kind == FR_OP_RECURRENT && part < 2) {
        *states = o->layout.states, *width = fr_part_width(o->given.model, part);
    } else if (o->given.kind == FR_OP_CONV_TIME && part == 0 && fr_operation_state(o)) {
        const fr_conv_shape *s = fr_conv_shape_of(o->given.conv);
        *width = (int64_t)s->before * s->inputs;
    } else if (o->given.kind == FR_OP_PREVIOUS && part == 0) {
        *width = (int64_t)o->width;
    } else if (o->given.kind == FR_OP_ATTEND && part == 0) {
        *width = o->given.attention->positions;
    }
    return *width > 0;
}

/* Offset of a part without states of its own. */
static size_t place_in(const struct operation *o) {
    return o->given.kind == FR_OP_ATTEND ? FR_SOURCE_FLOATS : 0;
}

void fr_slots_read(const fr_network *network, const fr_slots *slots, int32_t operation,
                   int32_t part, int64_t rows, const int64_t *slot, float *values) {
    const struct operation *o = &network->operations[operation];
    float *const *parts = fr_parts(slots, o, rows, fr_chosen(slots, rows, slot));
    int64_t states, width;
    if (!fr_network_part(network, operation, part, &states, &width)) return;
    if (o->given.kind == FR_OP_RECURRENT) {
        fr_read_part(o->given.model, part, rows, parts, values);
        return;
    }
    for (int64_t r = 0; r < rows; r++, values += width) {
        if (o->given.kind == FR_OP_CONV_TIME) fr_conv_state_get(o->given.conv, parts[r], values);
        else memcpy(values, parts[r] + place_in(o), (size_t)width * sizeof *values);
    }
}

static void write_part(const struct operation *o, int32_t part, int64_t rows, float *const *parts,
                       const float *values, size_t width) {
    const fr_operation *g = &o->given;
    if (g->kind == FR_OP_RECURRENT) {
        const float *first = part ? g->c0 : g->h0;
        fr_write_part(g->model, part, rows, parts, values ? values : first, !values);
        return;
    }
    for (int64_t r = 0; r < rows; r++) {
        float *to = parts[r] + place_in(o);
        const float *from = values ? values + (size_t)r * width : NULL;
        if (g->kind == FR_OP_CONV_TIME) fr_conv_state_set(g->conv, to, from);
        else if (values) memcpy(to, from, width * sizeof *to);
        else memset(to, 0, width * sizeof *to);
    }
}

void fr_slots_write(const fr_network *network, fr_slots *slots, int32_t operation, int32_t part,
                    int64_t rows, const int64_t *slot, const float *values) {
    const struct operation *o = &network->operations[operation];
    int64_t states, width;
    if (!fr_network_part(network, operation, part, &states, &width)) return;
    write_part(o, part, rows, fr_parts(slots, o, rows, fr_chosen(slots, rows, slot)), values,
               (size_t)width);
}

void fr_slots_reset(const fr_network *network, fr_slots *slots, int64_t rows, const int64_t *slot) {
    for (int32_t i = 0; i < network->num_operations; i++) {
        for (int32_t part = 0; part < 2; part++)
            fr_slots_write(network, slots, i, part, rows, slot, NULL);
    }
}

void fr_slots_look(const fr_network *network, fr_slots *slots, int32_t operation, int64_t rows,
                   const int64_t *slot, const int64_t *sources) {
    const struct operation *o = &network->operations[operation];
    float *const *parts = fr_parts(slots, o, rows, fr_chosen(slots, rows, slot));
    for (int64_t r = 0; r < rows; r++) *fr_source_of(parts[r]) = sources[r];
}
