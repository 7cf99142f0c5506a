/* Shared by the forward (sequence.c) and the backward pass (backward.c): rows, passes, shares.
 *
 * The count of steps, with T = 3 and rows of length 3, 1 and 2. Rows are first sorted by falling
 * length: order = (0, 2, 1), lengths (3, 2, 1). Then the rows that are alive at time t are always
 * the first few:
 *
 *     t = 0: three rows      t = 1: two      t = 2: one
 *
 * and no work is done for the others. A pass runs one layer in one direction. Step s of a pass is
 * time t = s forwards and t = (longest - 1) - s backwards; forwards rows drop out as they end,
 * backwards they join, each starting from its own initial state. Row r of a pass is the caller's
 * row order[r].
 *
 * A tape keeps the rows of a pass step after step: row r of step s is its row start[s] + r.
 */
#ifndef FASTRNN_SEQUENCE_H
#define FASTRNN_SEQUENCE_H

#include "plan.h"

/* ---- rows of an array -------------------------------------------------------------------- */

/* Place of step t of row r. */
struct view {
    float *base;
    size_t width, offset; /* floats per element; first feature of this direction */
    int64_t step, row;
    const int64_t *starts; /* (T) or NULL */
    const int64_t *order;  /* row r is the array's row order[r]; NULL: r */
};

static inline size_t view_index(const struct view *v, int64_t t, int64_t r) {
    const int64_t row = v->order ? v->order[r] : r;
    return (size_t)(v->starts ? v->starts[t] + row : t * v->step + row * v->row);
}

static inline float *view_at(const struct view *v, int64_t t, int64_t r) {
    return v->base + view_index(v, t, r) * v->width + v->offset;
}

/* ---- passes ------------------------------------------------------------------------------ */

struct pass {
    const struct call *call;
    const struct fr_layer *layer;
    const struct group *group;
    struct view x, y;
    const int64_t *tokens; /* first layer on tokens: x only finds their index */
    int reverse;
    int again;               /* training: steps that ran before, from the c that was kept then */
    size_t state;            /* layer * D + direction */
    const struct kept *kept; /* training: else NULL */
    const struct record *record; /* of the steps that run, or NULL */
};

/* Memory of a thread that runs a pass: its own pointers, and scratch that may be a team's. */
struct share {
    struct pointers *pointers;
    struct scratch scratch;
    struct fr_member *member;
};

/* Blocks of a share. */
struct range {
    int32_t begin, end;
};

static inline int64_t time_of(const struct pass *p, int64_t s) {
    return p->reverse ? p->group->steps - 1 - s : s;
}

/* The last step in which row r is alive, -1 if there is none. */
static inline int64_t last_step(const struct pass *p, int64_t r) {
    const int64_t length = p->group->length[r];
    return length == 0 ? -1 : p->reverse ? p->group->steps - 1 : length - 1;
}

static inline struct range share_of(int32_t blocks, int32_t i, int32_t shares) {
    return (struct range){(int32_t)((int64_t)blocks * i / shares),
                          (int32_t)((int64_t)blocks * (i + 1) / shares)};
}

/* (rows, blocks * U): the c that the tape keeps, from before the chunk that begins with step s. */
static inline float *kept_c(const struct pass *p, int64_t s) {
    const int64_t chunk = s / p->call->tape->plan.kept_steps;
    return p->kept->c_at + (size_t)(chunk * p->group->rows) * fr_unit_row(p->layer);
}

static inline struct view caller_view(const fr_sequence *q, const struct group *g, float *base,
                                      size_t width, size_t offset) {
    return (struct view){base, width, offset, q->step_stride, q->row_stride, q->starts, g->order};
}

static inline struct view inner_view(const struct group *g, float *base, size_t width,
                                     size_t offset) {
    return (struct view){base, width, offset, g->rows, 1, NULL, NULL};
}

struct pass fr_make_pass(const struct call *call, const struct part *part, int32_t layer,
                         int32_t direction);
/* The h before step s of a row of the pass: the y of the step before, or h0. */
const float *fr_h_before(const struct pass *pass, int64_t s, int64_t r);
/* Steps [s0, s1) of a pass again, from the states before s0, into pass->record. */
void fr_run_again(const struct pass *pass, const struct share *share, int64_t s0, int64_t s1);

#endif
