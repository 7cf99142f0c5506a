/* Plan of a call: its division, the rows of each part, and the memory of both.
 *
 * A call is planned before it runs: plan.c chooses a mode, lays out everything below in the
 * caller's memory, and deals the rows out. How rows are sorted and steps are counted stands in
 * sequence.h.
 */
#ifndef FASTRNN_PLAN_H
#define FASTRNN_PLAN_H

#include "model.h"
#include "team.h"

#include <string.h>

enum { CHUNK_ROWS = 96 }; /* rows of x per product: the weights are read once for all */

/* Rows that go through the network together, sorted by falling length. */
struct group {
    int64_t rows, steps; /* steps: the longest length */
    int64_t *order, *length;
};

/* Rows alive at time t; `near` is a guess. */
static inline int64_t alive(const struct group *g, int64_t t, int64_t near) {
    while (near < g->rows && g->length[near] > t) near++;
    while (near > 0 && g->length[near - 1] <= t) near--;
    return near;
}

/* Memory of one pass; the pointer arrays belong to one thread, the rest may be a team's. */
struct scratch {
    float *gates; /* (chunk rows, blocks, slots, U) */
    float *c[2];  /* (rows, blocks * U) before and after a step, in turn; the same when alone */
    float *u;     /* (rows, blocks * U): r * h0, or an LSTM's output before its projection */
    float *saved; /* (rows, blocks, slots, U) for a second phase */
};

struct pointers {
    const float **in;    /* [chunk rows] -> x */
    const float **gates; /* [chunk rows] -> gates */
    const float **h;     /* [rows] -> newest h */
    float **h1, **out;   /* [rows] */
    float **c[2];        /* [rows] -> the scratch's c */
    float **saved;       /* [rows] -> where the slots go */
    float *x_copy;       /* (chunk rows, inputs padded) for rows that would meet in the cache */
    float *h_copy;       /* (rows, R padded) likewise */
};

/* Rows a multiple of 4 KiB apart share their sets of L1, and a tile reads six at once next to the
 * weights: products of 1024 inputs ran at two thirds of the speed of 1040. A copy costs one pass
 * over what is then read once per block. */
static inline int rows_meet(const float *a, const float *b) {
    return (((uintptr_t)a - (uintptr_t)b) & 4095) == 0;
}

static inline size_t copy_stride(size_t width) {
    return (width + FR_GROUP - 1) / FR_GROUP * FR_GROUP + FR_GROUP;
}

static inline void copy_apart(float *to, const float **rows, int64_t count, size_t width) {
    for (int64_t r = 0; r < count; r++, to += copy_stride(width)) {
        memcpy(to, rows[r], width * sizeof *to);
        rows[r] = to;
    }
}

/* Records of one pass (layer and direction) of a part, for training. */
struct kept {
    int64_t *start; /* (steps + 1): rows before step s */
    float *c_at;    /* (chunks, rows, blocks * U): c before the first step of every chunk, LSTM */
    float *h;       /* (steps, rows, R): y of this direction, where y itself is a sum */
};

/* The rows of some steps, by start[s] + r - first: activated gates (gradients after the backward
 * pass), c, and what a second phase or a projection reads (r * h0, o * tanh(c)). */
struct record {
    const int64_t *start;
    int64_t first;
    float *gates, *c, *u;
};
static inline size_t record_row(const struct record *r, int64_t s) {
    return (size_t)(r->start[s] - r->first);
}

enum mode { SERIAL, ROWS, DIRECTIONS, UNITS };

/* A unit of independent work: the whole network for some rows (ROWS: one per thread), or all
 * rows. */
struct part {
    struct group group;
    float *between[2]; /* (longest, rows, F): outputs of inner layers, in turn */
    float *summands[2];
    struct kept kept[2];     /* training: per direction */
    struct record record[2]; /* the steps that are all kept, `gates` NULL where they are not */
};

/* Records of one layer, for training. */
struct fr_tape {
    fr_tape_plan plan;
    enum mode mode;
    int32_t parts;
    int64_t *rank;   /* (N): where a row of the caller's stands in the order of falling length */
    int64_t *length; /* (N) */
    struct part *part;
    struct record all[2]; /* per direction, the rows of all parts, part after part */
};

struct call {
    const fr_model *model;
    const fr_sequence *sequence;
    struct fr_tape *tape; /* training: only the tape's layer runs; else NULL */
    const struct fr_kernels *kernels;
    enum mode mode;
    int32_t threads, parts;
    int64_t chunk_rows;
    float *zeros; /* (R) */
    struct part *part;
    struct scratch
        *scratch; /* one per part (ROWS), per direction (DIRECTIONS), or a team's (UNITS) */
    struct pointers *pointers; /* one per thread */
    int64_t *sorted, *count;   /* (N), (T + 2): for sorting */
};

/* ---- plan.c ------------------------------------------------------------------------------ */

/* Division of a call. */
enum mode fr_choose_mode(const fr_model *model, int64_t steps, int64_t rows, int32_t threads);
/* Threads that a call can use, at most `threads`, as its tape divides it if it has one. */
int32_t fr_useful_threads(const struct call *call, int64_t steps, int64_t rows, int32_t threads);
/* Multiply-adds of so many steps of so many rows. */
double fr_call_macs(const fr_model *model, int64_t steps, int64_t rows);
/* Divides a call for a team of exactly `threads`, as its tape does if it has one, and lays its
 * memory out; with arena->base NULL it only counts. */
void fr_lay_out_call(struct call *call, int64_t steps, int64_t rows, int32_t threads,
                     struct fr_arena *arena);
/* Sorts rows by falling length and deals them out to the parts in turn, so that each part has its
 * share of long ones. sorted (N), count (T + 2): scratch. */
void fr_deal_rows(const fr_sequence *q, int32_t parts, struct part *part, int64_t *sorted,
                  int64_t *count);

/* ---- tape.c ------------------------------------------------------------------------------ */

/* Deals the rows of a training call out and finds where each part's are kept. */
void fr_tape_begin(struct call *call);
/* A tape without memory, for counting; 0 if the plan is impossible. */
int fr_plan_tape(const fr_model *model, const fr_tape_plan *plan, fr_tape *tape);
static inline size_t fr_part_rows(const fr_tape *tape, int32_t part) {
    return (size_t)((tape->plan.rows - part + tape->parts - 1) / tape->parts);
}
void fr_take_record(const struct fr_layer *l, size_t rows, struct record *out,
                    struct fr_arena *arena);
/* The part of `all` that begins at row `row`. */
struct record fr_record_from(const struct fr_layer *l, const struct record *all, size_t row,
                             const int64_t *start);

#endif
