/* One step of a stack for any rows, each of which has its state in a slot of its own.
 *
 * A slot is a header of FR_GROUP floats, whose first word says which h is newest, and per layer
 *
 *     h[2] (h_stride each)    c (c_stride; LSTM)
 *
 * h exists twice, for the units of a layer read the old h of each other while they write the new.
 * Rows whose slots have taken different numbers of steps go through one step together.
 */
#ifndef FASTRNN_STREAM_H
#define FASTRNN_STREAM_H

#include "model.h"

struct fr_stack_slot {
    int64_t states;            /* L * D */
    size_t h_stride, c_stride; /* floats; c_stride is that of u as well */
    size_t layer;              /* floats from one layer to the next */
    size_t floats;             /* of a slot */
};

/* Workspace of a step of up to N rows beside the slots; of no meaning between two steps. */
struct fr_step_memory {
    const float **in;    /* (N): inputs of the next layer, at the end the newest h of the last */
    const float **gates; /* (N): x parts of the first layer from a table, instead of `in` */
    const float **h0;
    float **h1, **out, **c;
    float **saved;    /* (N) -> activated, cells with two phases */
    float *activated; /* (N, blocks, slots, U) */
    size_t gate_row;  /* floats of one row of that */
    float *u;         /* (N, blocks * U): r * h0, or an LSTM's output before its projection */
};

struct fr_stack_slot fr_lay_out_slot(const fr_model *model);
/* With arena->base NULL it only counts. */
void fr_lay_out_step(const fr_model *model, int64_t rows, struct fr_step_memory *memory,
                     struct fr_arena *arena);

/* memory->in (or memory->gates, if `folded`) holds the rows' inputs; afterwards memory->in holds
 * their outputs, which stand in the slots. */
void fr_step_slots(const fr_model *model, const struct fr_stack_slot *layout,
                   const struct fr_step_memory *memory, int64_t rows, float *const *slot,
                   int folded);

/* Part 0 is h (L * D, rows, R), part 1 is c (L * D, rows, H), 0 wide in cells without. */
static inline int64_t fr_part_width(const fr_model *model, int32_t part) {
    const fr_shape *s = &model->shape;
    return part == 0 ? fr_output_size(s) : fr_cells[s->cell].info.states == 2 ? s->hidden_size : 0;
}
/* `values` into slots, NULL: zeros; with `repeated` they are (L * D, width), for all rows. */
void fr_write_part(const fr_model *model, int32_t part, int64_t rows, float *const *slot,
                   const float *values, int repeated);
void fr_read_part(const fr_model *model, int32_t part, int64_t rows, float *const *slot,
                  float *values);

/* ---- rows of slots ------------------------------------------------------------------------ */

/* Slots of one size, and the rows that are in use: which slot each of them has. */
struct fr_rows {
    char *base;
    size_t stride; /* bytes */
    int32_t count, capacity;
    float **slot, **spare; /* (capacity) */
    uint8_t *taken;        /* (capacity), by number of the slot */
};

void fr_lay_out_rows(struct fr_rows *rows, size_t floats, int64_t capacity, struct fr_arena *arena);
static inline float *fr_slot_at(const struct fr_rows *rows, int64_t number) {
    return (float *)(rows->base + (size_t)number * rows->stride);
}
/* Row n has what row indices[n] had. Slots are copied only for rows that occur twice. */
void fr_reorder_rows(struct fr_rows *rows, const int64_t *indices, int64_t count);

#endif
