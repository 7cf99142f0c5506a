/* The backward pass of one layer: time again, last step first, and then the products over all
 * steps. Knows no gate and no intrinsic.
 *
 * A step turns the activated gates on the tape into the gradients of their pre-activations, dz, in
 * place, and dz W_hh is what the step before receives. Only this needs one step after the other.
 * The gradients of the weights and of x are products over all rows of all steps, done once at the
 * end (or once per chunk, when the tape keeps only a chunk and the rest is computed again), see
 * gradients.c.
 *
 * A share of units (UNITS) is also a share of the same units of dh, so that its next step needs
 * nothing from others, and two phases per step are enough.
 */
#include "backward.h"
#include "../matrix/panel.h"

enum {
    LEAST_WORK = 500000, /* multiply-adds below which a call stays in one thread: 30 us */
    PARTS_OF_U = FR_ROW, /* units are divided in whole blocks of the products' outputs */
};

/* ---- time -------------------------------------------------------------------------------- */

/* The blocks of units that are the same units as a share of the products' outputs. */
static struct range units_of(const struct fr_layer *l, int32_t i, int32_t shares) {
    const int32_t ratio = PARTS_OF_U / l->unit;
    struct range range = share_of((l->units + PARTS_OF_U - 1) / PARTS_OF_U, i, shares);
    range.begin *= ratio, range.end *= ratio;
    if (range.end > l->blocks) range.end = l->blocks;
    if (range.begin > l->blocks) range.begin = l->blocks;
    return range;
}

static int64_t rows_at(const struct record *record, int64_t s) {
    return record->start[s + 1] - record->start[s];
}

static void point_at_rows(const struct back *b, const struct pass *p, const struct work *w,
                          const struct lists *q, int64_t s, int64_t s0) {
    const struct fr_layer *l = p->layer;
    const size_t unit_row = fr_unit_row(l), first = record_row(&w->record, s);
    const size_t F = (size_t)fr_features(&b->call.model->shape), R = (size_t)l->h.inputs;
    const size_t offset = p->reverse && !b->call.model->shape.merge_sum ? R : 0;
    const struct view dy = caller_view(b->call.sequence, p->group, (float *)b->g->dy, F, offset);
    for (int64_t r = 0; r < rows_at(&w->record, s); r++) {
        const size_t row = (size_t)r;
        q->gates[r] = w->record.gates + (first + row) * fr_gate_row(l);
        q->h0[r] = fr_h_before(p, s, r);
        q->c0[r] = w->record.c ? c_before(p, &w->record, s, s0, r) : NULL;
        q->dy[r] = b->g->dy ? view_at(&dy, time_of(p, s), r) : NULL;
        q->dh[r] = w->dh + row * unit_row;
        q->dm[r] = row_of(w->dm, row, unit_row);
        q->du[r] = row_of(w->du, row, unit_row);
        q->dz_h[r] = row_of(w->dz_h[s & 1], row, b->h_row);
        q->dz_u[r] = row_of(w->dz_u, row, b->u_row);
        q->dq[r] = row_of(w->dq, first + row, b->dq_row);
    }
}

/* A share of y = m x, or y += m x. */
static void multiply(const struct back *b, const struct fr_matrix *m, float *const *x,
                     float *const *y, int64_t rows, struct range blocks, int accumulate,
                     int64_t s) {
    const struct fr_product product = {
        .matrix = m,
        .x = (const float *const *)x,
        .y = y,
        .rows = rows,
        .begin = blocks.begin,
        .end = blocks.end,
        .accumulate = accumulate,
        .reversed = (int32_t)(s & 1),
    };
    b->call.kernels->product(&product);
}

/* A share of dq, the gradient of a projected h. */
static void collect_dq(const struct fr_matrix *m, const struct lists *q, int64_t rows,
                       int32_t share, int32_t shares) {
    const struct range range = share_of((m->inputs + FR_ROW - 1) / FR_ROW, share, shares);
    const int32_t end = range.end * FR_ROW < m->inputs ? range.end * FR_ROW : m->inputs;
    for (int64_t r = 0; r < rows; r++) {
        for (int32_t i = range.begin * FR_ROW; i < end; i++) {
            q->dq[r][i] = q->dh[r][i] + (q->dy[r] ? q->dy[r][i] : 0.0f);
        }
    }
}

/* A step backwards, but for its parts of the blocks. */
static struct fr_back prepare_step(const struct back *b, const struct pass *p, const struct work *w,
                                   const struct lists *q, int64_t s) {
    const struct fr_layer *l = p->layer;
    const size_t first = record_row(&w->record, s);
    const int projected = l->projection.outputs != 0;
    return (struct fr_back){
        .layer = l,
        .gates = q->gates,
        .h0 = q->h0,
        .c0 = q->c0,
        .c1 = row_of(w->record.c, first, fr_unit_row(l)),
        .dy = projected || !b->g->dy ? NULL : q->dy,
        .dh = projected ? q->dm : q->dh,
        .dc = w->dc,
        .du = w->du,
        .dz_h = w->dz_h[0] ? q->dz_h : NULL,
        .dz_u = w->dz_u ? q->dz_u : NULL,
        .flow = row_of(w->flow, first, 2 * (size_t)l->blocks),
        .rows = (int32_t)rows_at(&w->record, s),
    };
}

/* Through the cell: dz from dh, and dh of the step before but for its product. */
static void back_cell(const struct back *b, const struct fr_backward_layer *weights,
                      struct fr_back *step, const struct lists *q, struct fr_member *member,
                      int64_t s) {
    const struct fr_layer *l = step->layer;
    const struct fr_cell_kernels *cell = fr_cell_kernels(b->call.kernels, l);
    const int n = member->threads;
    for (int32_t i; (i = fr_next_share(member)) >= 0;) {
        const struct range units = units_of(l, i, n);
        step->begin = units.begin, step->end = units.end;
        if (weights->projection.outputs) {
            multiply(b, &weights->projection, q->dq, q->dm, step->rows,
                     share_of(weights->projection.blocks, i, n), 0, s);
        }
        cell->back(step);
    }
    if (member->gone || !cell->back_second) return;
    for (int32_t i; (i = fr_next_share(member)) >= 0;) {
        const struct range units = units_of(l, i, n);
        step->begin = units.begin, step->end = units.end;
        multiply(b, &weights->u, q->dz_u, q->du, step->rows, share_of(weights->u.blocks, i, n), 0,
                 s);
        cell->back_second(step);
    }
}

/* The steps [s0, s1) of a pass, from the last to the first. */
static void back_steps(const struct back *b, const struct pass *p, const struct work *w,
                       const struct lists *q, struct fr_member *member, int64_t s0, int64_t s1) {
    const struct fr_layer *l = p->layer;
    const struct fr_backward_layer *weights = &b->weights[p->reverse];
    const int direct = fr_cells[l->cell].info.direct;
    for (int64_t s = s1 - 1; s >= s0; s--) {
        const int64_t rows = rows_at(&w->record, s);
        point_at_rows(b, p, w, q, s, s0);
        struct fr_back step = prepare_step(b, p, w, q, s);
        if (weights->projection.outputs) {
            for (int32_t i; (i = fr_next_share(member)) >= 0;)
                collect_dq(&weights->projection, q, rows, i, member->threads);
            if (member->gone) return;
        }
        back_cell(b, weights, &step, q, member, s);
        if (member->gone) return;
        for (int32_t i; (i = fr_next_share(member)) >= 0;) {
            multiply(b, &weights->h, w->dz_h[0] ? q->dz_h : q->gates, q->dh, rows,
                     share_of(weights->h.blocks, i, member->threads), direct, s);
        }
        if (member->gone) return;
    }
}

/* ---- the ends of time -------------------------------------------------------------------- */

/* Gradients from the last states, with which every row begins at its own last step. */
static void start_gradients(const struct back *b, const struct pass *p, const struct work *w) {
    const struct fr_layer *l = p->layer;
    const size_t R = (size_t)l->h.inputs, H = (size_t)l->units, row = fr_unit_row(l);
    for (int64_t r = 0; r < p->group->rows; r++) {
        const size_t from = p->state * (size_t)b->call.sequence->rows + (size_t)p->group->order[r];
        memset(w->dh + (size_t)r * row, 0, row * sizeof(float));
        if (b->g->dhn) memcpy(w->dh + (size_t)r * row, b->g->dhn + from * R, R * sizeof(float));
        if (w->dm) memset(w->dm + (size_t)r * row, 0, row * sizeof(float)); /* products leave out */
        if (w->du)
            memset(w->du + (size_t)r * row, 0, row * sizeof(float)); /* units that are padding */
        if (!w->dc) continue;
        memset(w->dc + (size_t)r * row, 0, row * sizeof(float));
        if (b->g->dcn) memcpy(w->dc + (size_t)r * row, b->g->dcn + from * H, H * sizeof(float));
    }
}

static void finish_gradients(const struct back *b, const struct pass *p, const struct work *w) {
    const struct fr_layer *l = p->layer;
    const size_t R = (size_t)l->h.inputs, H = (size_t)l->units, row = fr_unit_row(l);
    for (int64_t r = 0; r < p->group->rows; r++) {
        const size_t to = p->state * (size_t)b->call.sequence->rows + (size_t)p->group->order[r];
        if (b->g->dh0) memcpy(b->g->dh0 + to * R, w->dh + (size_t)r * row, R * sizeof(float));
        if (b->g->dc0 && w->dc)
            memcpy(b->g->dc0 + to * H, w->dc + (size_t)r * row, H * sizeof(float));
    }
}

static void clear_tails(const struct back *b, int32_t thread, int32_t threads) {
    const fr_sequence *q = b->call.sequence;
    const size_t I = (size_t)b->layers->x.inputs;
    const struct view dx = {b->g->dx, I, 0, q->step_stride, q->row_stride, q->starts, NULL};
    for (int64_t n = thread; b->g->dx && !q->starts && n < q->rows; n += threads) {
        for (int64_t t = b->call.tape->length[n]; t < q->steps; t++)
            memset(view_at(&dx, t, n), 0, I * sizeof(float));
    }
}

/* ---- the call ---------------------------------------------------------------------------- */

/* The steps [s0, s1) of one part in one direction, computed again first if the tape has not kept
 * them. */
static void run_part(const struct back *b, int32_t part, int32_t d, int64_t s0, int64_t s1,
                     int32_t thread, struct fr_member *member) {
    const size_t at = (size_t)(part * b->D + d);
    const struct share share = {&b->call.pointers[thread],
                                b->call.scratch[b->call.mode == DIRECTIONS ? d : part], member};
    struct pass pass = b->pass[at];
    if (!pass.record) {
        pass.record = &b->work[at].record;
        fr_run_again(&pass, &share, s0, s1);
        if (member->gone) return;
    }
    back_steps(b, &pass, &b->work[at], &b->lists[thread], member, s0, s1);
}

/* The members share the units of every step, or the parts. */
static void run_time(const struct back *b, int32_t d, int64_t s0, int64_t s1,
                     struct fr_member *member) {
    if (b->call.mode == UNITS) {
        run_part(b, 0, d, s0, s1, member->thread, member);
        return;
    }
    for (int32_t i; (i = fr_next_share(member)) >= 0;) {
        for (int32_t part = i; part < b->call.parts; part += member->threads) {
            struct fr_member alone = FR_ALONE;
            run_part(b, part, d, s0, s1, member->thread, &alone);
        }
    }
}

/* Both directions at once. */
static void run_directions(const struct back *b, int64_t steps, struct fr_member *member) {
    for (int32_t i; (i = fr_next_share(member)) >= 0;) {
        for (int32_t d = i; d < b->D; d += member->threads) {
            struct fr_member alone = FR_ALONE;
            run_part(b, 0, d, 0, steps, member->thread, &alone);
        }
    }
}

static void add_gradients(const struct back *b, int32_t d, int64_t s0, int64_t s1,
                          struct fr_member *member) {
    for (int32_t i; (i = fr_next_share(member)) >= 0;)
        fr_add_gradients(b, d, s0, s1, i, member->threads);
}

/* The records of a tape that keeps only a chunk begin with step s0. */
static void begin_chunk(const struct back *b, int32_t d, int64_t s0, struct fr_member *member) {
    for (int32_t share; (share = fr_next_share(member)) >= 0;) {
        for (int32_t i = share; i < b->call.parts; i += member->threads) {
            struct record *record = &b->work[i * b->D + d].record;
            record->first = record->start[s0];
        }
    }
}

/* One direction, chunk after chunk, from the last to the first. */
static void run_direction(const struct back *b, int32_t d, struct fr_member *member) {
    const int64_t steps = b->pass[d].group->steps, kept = b->call.tape->plan.kept_steps;
    for (int64_t chunk = (steps + kept - 1) / kept - 1; chunk >= 0 && !member->gone; chunk--) {
        const int64_t s0 = chunk * kept, s1 = s0 + kept < steps ? s0 + kept : steps;
        if (kept < b->call.tape->plan.steps) {
            begin_chunk(b, d, s0, member);
            if (member->gone) return;
        }
        run_time(b, d, s0, s1, member);
        if (member->gone) return;
        add_gradients(b, d, s0, s1, member);
    }
}

/* A share of `count` floats, set to 0. */
static void clear(float *x, size_t count, int32_t share, int32_t shares) {
    const size_t lines = count / FR_ROW, first = lines * (size_t)share / (size_t)shares * FR_ROW;
    const size_t last =
        share == shares - 1 ? count : lines * (size_t)(share + 1) / (size_t)shares * FR_ROW;
    memset(x + first, 0, (last - first) * sizeof *x);
}

/* Memory that begins as zeros: sums, and dq of rows that are not there. It may be long, and members
 * that were gathered do not wait long: so it is divided, too. */
static void clear_sums(const struct back *b, int32_t share, int32_t shares) {
    const fr_tape *tape = b->call.tape;
    const size_t kept_steps = (size_t)tape->plan.kept_steps;
    if (b->by_token)
        clear(b->by_token, (size_t)tape->plan.vocabulary * fr_gate_row(b->layers), share, shares);
    if (b->g->flow && share == 0)
        memset(b->g->flow, 0, 2 * (size_t)b->D * (size_t)tape->plan.steps * sizeof *b->g->flow);
    for (int32_t i = 0; i < tape->parts * b->D && b->dq_row; i++) {
        clear(b->work[i].dq, kept_steps * (size_t)tape->part[i / b->D].group.rows * b->dq_row,
              share, shares);
    }
}

/* Work that needs all sums to be complete. */
static void finish(const struct back *b, int32_t share, int32_t shares) {
    if (b->by_token) fr_add_token_gradients(b, share, shares);
    for (int32_t i = share; i < b->call.parts * b->D; i += shares)
        finish_gradients(b, &b->pass[i], &b->work[i]);
    clear_tails(b, share, shares);
}

static void run_member(void *context, struct fr_member *member) {
    const struct back *b = context;
    const int64_t steps = b->pass[0].group->steps;
    const int32_t D = b->D, both = b->call.mode == DIRECTIONS;
    for (int32_t share; (share = fr_next_share(member)) >= 0;) {
        clear_sums(b, share, member->threads);
        for (int32_t i = share; i < b->call.parts * b->D; i += member->threads) {
            start_gradients(b, &b->pass[i], &b->work[i]);
        }
    }
    if (both && !member->gone) run_directions(b, steps, member);
    for (int32_t d = 0; d < D && !member->gone; d++) {
        if (both) add_gradients(b, d, 0, steps, member);
        else run_direction(b, d, member);
    }
    if (member->gone) return;
    for (int32_t i; (i = fr_next_share(member)) >= 0;) finish(b, i, member->threads);
}

static void prepare(struct back *b) {
    const fr_tape *tape = b->call.tape;
    const struct fr_layer *l = b->layers;
    size_t first = 0;
    memset(b->call.zeros, 0, (size_t)l->h.inputs * sizeof(float));
    for (int32_t part = 0; part < tape->parts; part++) {
        size_t rows = 0;
        for (int32_t d = 0; d < b->D; d++) {
            const int32_t i = part * b->D + d;
            const int64_t *start = tape->part[part].kept[d].start;
            rows = (size_t)start[tape->part[part].group.steps];
            b->pass[i] = fr_make_pass(&b->call, &tape->part[part], tape->plan.layer, d);
            if (tape->all[d].gates)
                b->work[i].record = fr_record_from(l, &tape->all[d], first, start);
            else b->work[i].record.start = start;
            if (!b->g->flow) b->work[i].flow = NULL;
        }
        first += rows;
    }
}

void fr_backward(const fr_model *model, const fr_backward_weights *weights,
                 const fr_sequence *sequence, const fr_gradients *gradients, void *workspace,
                 int32_t threads) {
    const int32_t layer = sequence->tape->plan.layer * model->shape.num_directions;
    const struct fr_layer *l = &model->layers[layer];
    const double macs = (double)l->slots * l->units * (l->x.inputs + l->h.inputs) *
                        (double)sequence->tape->plan.elements;
    struct back b = {
        .call = {.model = model,
                 .sequence = sequence,
                 .tape = sequence->tape,
                 .kernels = fr_active_kernels()},
        .weights = &weights->layers[layer],
        .g = gradients,
    };
    struct fr_arena arena = {workspace, 0};
    struct fr_member member;
    const int alone = macs < LEAST_WORK || sequence->tape->mode == SERIAL;
    threads = alone ? 1 : fr_tape_threads(&sequence->tape->plan, threads);
    threads = fr_team_gather(&member, threads, 3 * macs);
    fr_lay_out_back(&b, threads, &arena);
    prepare(&b);
    fr_team_run(&member, run_member, &b);
}
