/* Shared by the halves of a backward pass: time (backward.c), and the products over all rows of all
 * steps (gradients.c). */
#ifndef FASTRNN_BACKWARD_H
#define FASTRNN_BACKWARD_H

#include "sequence.h"

enum { FR_INPUT_ROWS = 96 }; /* rows of dx per product */

/* Memory of one part in one direction. */
struct work {
    float *dh, *dm, *dc,
        *du; /* (rows, blocks * U); dm: of an LSTM's output before its projection */
    float *dz_h[2],
        *dz_u; /* (rows, width of a product's inputs), where the tape has others between */
    struct record record;
    float *dq;   /* by row of the record, (R padded): gradient of a projected h */
    float *flow; /* by row of the record, (blocks, 2) */
};

/* Pointers of a thread. */
struct lists {
    float **gates, **dh, **dm, **du, **dz_h, **dz_u, **dq; /* [rows of a part] */
    const float **h0, **c0, **dy;
    const float **a, **b; /* [rows of a panel] */
    struct row *row;      /* [rows of a panel or of a product] */
    float *panel_x, *panel_h, *panel_u, *compact;
};

/* One row of one step, for the products: on the tape, and where its x and its h0 are. */
struct row {
    float *gates, *dx;
    const float *x, *h0, *u, *dq, *c0, *c1;
    int64_t token;
};

struct back {
    struct call call;
    const struct fr_backward_layer *weights; /* of the layer's first direction */
    const struct fr_layer *layers;
    const fr_gradients *g;
    struct work *work;   /* (parts, D) */
    struct pass *pass;   /* (parts, D) */
    struct lists *lists; /* (threads) */
    float *by_token;     /* (V, blocks, slots, U): gradients of gates added up per token; NULL: x is
                            given */
    int32_t D, threads;
    int32_t h_apart; /* the slots of h lie between others: they need a copy side by side */
    size_t h_row, u_row, dq_row; /* floats of a row of dz_h, dz_u and dq */
};

/* Rows of a product are kept off multiples of 1 KiB, as those of gates. */
static inline size_t off_kib(size_t floats) { return floats % 256 == 0 ? floats + 32 : floats; }

static inline float *row_of(float *base, size_t row, size_t width) {
    return base ? base + row * width : NULL;
}

/* The c before step s: of the step before, or what was kept at the start of the chunk. */
static inline const float *c_before(const struct pass *p, const struct record *record, int64_t s,
                                    int64_t s0, int64_t r) {
    const size_t unit_row = fr_unit_row(p->layer);
    if (s > s0 && r < record->start[s] - record->start[s - 1]) {
        return record->c + (record_row(record, s - 1) + (size_t)r) * unit_row;
    }
    const int64_t chunk = s0 / p->call->tape->plan.kept_steps;
    return p->kept->c_at + (size_t)(chunk * p->group->rows + r) * unit_row;
}

/* backward_plan.c: the threads of a pass, not more than its tape was planned for. */
int32_t fr_tape_threads(const fr_tape_plan *plan, int32_t threads);
/* Plans a backward pass and lays its memory out; with arena->base NULL it only counts. */
void fr_lay_out_back(struct back *b, int32_t threads, struct fr_arena *arena);

/* gradients.c: what the rows of the steps [s0, s1) of direction d add to the gradients of weights,
 * inputs and embedding, and to the flow; a thread's share. */
void fr_add_gradients(const struct back *b, int32_t d, int64_t s0, int64_t s1, int32_t thread,
                      int32_t threads);
/* Adds the sums per token to the gradients, once all steps are done. */
void fr_add_token_gradients(const struct back *b, int32_t thread, int32_t threads);

#endif
