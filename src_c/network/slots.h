/* Inside of the slots of a network's live streams. */
#ifndef FASTRNN_SLOTS_H
#define FASTRNN_SLOTS_H

#include "network.h"

struct fr_slots {
    struct fr_rows rows;
    struct fr_step_memory *memory; /* (operations), of recurrent ones, all in the same place */
    float **own;                   /* (operations) where values stand that nobody else holds */
    const float **value;           /* (operations) where they stand in the step at hand */
    float **chosen, **part; /* (capacity) slots of a step, and one operation's part of them */
    const float **in;       /* (capacity) rows of a convolution along time */
    float **out;            /* (capacity) likewise */
    void *workspace;        /* of convolutions */
    int64_t *sources;       /* (capacity) attention's, of a step */
    float *weights;         /* (capacity, most positions) likewise */
};

/* The slots of some rows: those that were picked, or the rows in their order. */
static inline float *const *fr_chosen(const fr_slots *s, int64_t rows, const int64_t *slot) {
    if (!slot) return s->rows.slot;
    for (int64_t r = 0; r < rows; r++) s->chosen[r] = fr_slot_at(&s->rows, slot[r]);
    return s->chosen;
}

static inline float *const *fr_parts(const fr_slots *s, const struct operation *o, int64_t rows,
                                     float *const *slot) {
    for (int64_t r = 0; r < rows; r++) s->part[r] = slot[r] + o->state;
    return s->part;
}

/* step.c: reading row by row where sequences cannot be run, with memory for tokens (rows). */
void fr_read_steps(const fr_network *network, fr_slots *slots, const fr_run *run, int64_t *tokens);

/* Attention's part of a slot: the source, then its weights from here on. */
enum { FR_SOURCE_FLOATS = FR_GROUP };
static inline int64_t *fr_source_of(float *part) { return (int64_t *)part; }

#endif
