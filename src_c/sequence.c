/* Whole sequences: time, rows, layers, directions, teams. Knows no gate and no intrinsic.
 *
 * The x part of many steps is one product (a chunk of steps, at least CHUNK_ROWS rows together);
 * then the steps of that chunk run one after the other on the h part. How steps and rows are counted
 * stands in sequence.h.
 */
#include "sequence.h"

/* ---- one pass --------------------------------------------------------------------------------- */

static void start_states(const struct pass *p, const struct share *share) {
    const fr_sequence *q = p->call->sequence;
    const struct fr_layer *l = p->layer;
    const size_t R = (size_t)fr_output_size(&p->call->model->shape), H = (size_t)l->units, row = fr_unit_row(l);
    const size_t N = (size_t)q->rows;
    const int32_t first = share_begin(l->blocks, share->thread, share->threads) * l->unit;
    const int32_t last = share_begin(l->blocks, share->thread + 1, share->threads) * l->unit;
    const size_t units = (last < l->units ? (size_t)last : H) - (size_t)first;
    for (int64_t r = 0; r < p->group->rows; r++) {
        const size_t from = p->state * N + (size_t)p->group->order[r];
        share->pointers->h[r] = q->h0 ? q->h0 + from * R : p->call->zeros;
        if (fr_cells[l->cell].states != 2) continue;
        for (int i = 0; i < 2; i++) {
            float *c = share->scratch.c[i] + (size_t)r * row + first;
            memset(c, 0, (size_t)(last - first) * sizeof *c);
            if (q->c0) memcpy(c, q->c0 + from * H + first, units * sizeof *c);
        }
    }
}

/* Finds the x (or the gates) of the chunk that starts at step s; returns the step after it. */
static int64_t gather_chunk(const struct pass *p, const struct share *share, int64_t s, int64_t until, int64_t *rows) {
    const size_t gate_row = fr_gate_row(p->layer);
    float *gates = p->record ? p->record->gates + record_row(p->record, s) * gate_row : share->scratch.gates;
    int64_t n = 0;
    *rows = 0;
    for (; s < until; s++) {
        const int64_t t = time_of(p, s);
        n = alive(p->group, t, n);
        if (*rows && *rows + n > p->call->chunk_rows) break;
        for (int64_t r = 0; r < n; r++, ++*rows) {
            if (p->tokens) {
                const int64_t token = p->tokens[view_index(&p->x, t, r)];
                share->pointers->gates[*rows] = p->call->sequence->table + (size_t)token * gate_row;
            } else {
                share->pointers->in[*rows] = view_at(&p->x, t, r);
                share->pointers->gates[*rows] = gates + (size_t)*rows * gate_row;
            }
        }
    }
    const float **in = share->pointers->in;
    if (!p->tokens && p->layer->inputs && *rows > 1 && rows_meet(in[0], in[1])) {
        copy_apart(share->pointers->x_copy, in, *rows, (size_t)p->layer->inputs);
    }
    return s;
}

/* How a thread came to the end of its steps. */
struct ending {
    enum fr_meeting meeting; /* FR_MET: every step is done */
    int64_t step;            /* else: at which step the threads did not meet, */
    int y_follows;           /* and whether the others still complete y of that step */
};

static enum fr_meeting meet(const struct share *share) {
    return share->point ? fr_meet(share->point, share->threads, !share->no_take_over) : FR_MET;
}

/* One step on a thread's blocks, with the phases that need all blocks of the one before. */
static struct ending run_step(const struct pass *p, const struct share *share, const struct fr_step *step, int64_t s) {
    const struct fr_kernels *kernels = p->call->kernels;
    const struct fr_layer *l = p->layer;
    const struct fr_matrix *projection = l->projection.outputs ? &l->projection : NULL;
    struct ending end = {FR_MET, s, .y_follows = 0}; /* before the last phase nobody has begun with y */
    kernels->step[l->cell](step);
    if (projection || kernels->second[l->cell]) {
        end.meeting = meet(share);
        if (end.meeting != FR_MET) return end;
        if (kernels->second[l->cell]) kernels->second[l->cell](step);
    }
    if (projection) {
        const struct fr_product product = {
            projection, (const float *const *)share->pointers->h1, share->pointers->out, step->rows,
            share_begin(projection->blocks, share->thread, share->threads),
            share_begin(projection->blocks, share->thread + 1, share->threads), .accumulate = 0, .reversed = 0,
        };
        kernels->product(&product);
    }
    end.meeting = meet(share);
    end.y_follows = 1;
    return end;
}

/* Where the slots of a step go: onto the tape, or to a second phase. */
static float *const *find_saved(const struct pass *p, const struct share *share, size_t kept, int64_t rows) {
    float **saved = share->pointers->saved;
    if (!p->record && !share->scratch.saved) return NULL;
    float *first = p->record ? p->record->gates + kept * fr_gate_row(p->layer) : share->scratch.saved;
    for (int64_t r = 0; r < rows; r++) saved[r] = first + (size_t)r * fr_gate_row(p->layer);
    return saved;
}

/* Keeps c as it is before step s, which begins a chunk. */
static void keep_c(const struct pass *p, const struct share *share, int64_t s) {
    const int64_t chunk = s / p->call->tape->plan.kept_steps;
    const size_t unit_row = fr_unit_row(p->layer), U = (size_t)p->layer->unit;
    const size_t first = (size_t)share_begin(p->layer->blocks, share->thread, share->threads) * U;
    const size_t last = (size_t)share_begin(p->layer->blocks, share->thread + 1, share->threads) * U;
    const float *c = share->scratch.c[(s + 1) & 1];
    float *to = p->kept->c_at + (size_t)(chunk * p->group->rows) * unit_row;
    for (size_t r = 0; r < (size_t)p->group->rows; r++) {
        memcpy(to + r * unit_row + first, c + r * unit_row + first, (last - first) * sizeof *c);
    }
}

/* The steps [s, until) of one pass; with h_apart, the h of the first one goes to scratch.h, for its y
 * is written by others. */
static struct ending run_steps(const struct pass *p, const struct share *share, int64_t s, int64_t until, int h_apart) {
    const struct fr_layer *l = p->layer;
    const struct pointers *q = share->pointers;
    const struct record *record = p->record;
    const int32_t begin = share_begin(l->blocks, share->thread, share->threads);
    const int32_t end = share_begin(l->blocks, share->thread + 1, share->threads);
    const size_t unit_row = fr_unit_row(l), R = (size_t)l->recurrent;
    for (int64_t chunk_end, rows, at; s < until;) {
        chunk_end = gather_chunk(p, share, s, until, &rows);
        const int fused = chunk_end - s == 1 && rows <= FR_TILE_ROWS && !p->tokens && !record;
        if (!fused && !p->tokens) {
            const struct fr_input input = {l, q->in, rows ? (float *)q->gates[0] : NULL, rows, begin, end};
            p->call->kernels->input(&input);
        }
        at = 0;
        for (int64_t n = 0; s < chunk_end; s++, at += n, h_apart = 0) {
            const int64_t t = time_of(p, s);
            const size_t kept = record ? record_row(record, s) : 0;
            float *u = record && record->u ? record->u + kept * unit_row : share->scratch.u;
            n = alive(p->group, t, n);
            if (p->kept && p->kept->c_at && s % p->call->tape->plan.kept_steps == 0) keep_c(p, share, s);
            for (int64_t r = 0; r < n; r++) {
                q->out[r] = h_apart ? share->scratch.h + (size_t)r * R : view_at(&p->y, t, r);
                q->h1[r] = l->projection.outputs ? u + (size_t)r * unit_row : q->out[r];
            }
            const struct fr_step step = {
                .layer = l, .x = fused ? q->in : NULL, .gates = fused ? NULL : q->gates + at,
                .h0 = q->h, .h1 = q->h1, .c0 = share->scratch.c[(s + 1) & 1], .c1 = share->scratch.c[s & 1],
                .saved = find_saved(p, share, kept, n), .c_saved = record && record->c ? record->c + kept * unit_row : NULL,
                .u = u, .rows = (int32_t)n, .begin = begin, .end = end, .reversed = (int32_t)(s & 1),
            };
            const struct ending ending = run_step(p, share, &step, s);
            if (ending.meeting != FR_MET) return ending;
            for (int64_t r = 0; r < n; r++) q->h[r] = q->out[r];
            if (n > 1 && rows_meet(q->h[0], q->h[1])) copy_apart(q->h_copy, q->h, n, R);
        }
    }
    return (struct ending){FR_MET, s, 1};
}

const float *fr_h_before(const struct pass *p, int64_t s, int64_t r) {
    const fr_sequence *q = p->call->sequence;
    const int64_t t = time_of(p, s), before = p->reverse ? t + 1 : t - 1;
    if (before >= 0 && before < p->group->length[r]) return view_at(&p->y, before, r);
    const size_t from = p->state * (size_t)q->rows + (size_t)p->group->order[r];
    return q->h0 ? q->h0 + from * (size_t)p->layer->recurrent : p->call->zeros;
}

void fr_run_again(const struct pass *p, const struct share *share, int64_t s0, int64_t s1) {
    const size_t unit_row = fr_unit_row(p->layer), U = (size_t)p->layer->unit;
    const size_t first = (size_t)share_begin(p->layer->blocks, share->thread, share->threads) * U;
    const size_t last = (size_t)share_begin(p->layer->blocks, share->thread + 1, share->threads) * U;
    const int64_t chunk = s0 / p->call->tape->plan.kept_steps;
    for (int64_t r = 0; r < p->group->rows; r++) {
        share->pointers->h[r] = fr_h_before(p, s0, r);
        for (int i = 0; i < 2 && p->kept->c_at; i++) {
            memcpy(share->scratch.c[i] + (size_t)r * unit_row + first,
                   p->kept->c_at + (size_t)(chunk * p->group->rows + r) * unit_row + first,
                   (last - first) * sizeof(float));
        }
    }
    struct pass again = *p; /* c is kept already */
    struct kept kept = *p->kept;
    kept.c_at = NULL;
    again.kept = &kept;
    run_steps(&again, share, s0, s1, 0);
}

/* Writes a row's own last state. After step s its c is in c[s & 1]; before the first step, in both. */
static void finish_row(const struct pass *p, const struct pointers *pointers, const struct scratch *scratch, int64_t r) {
    const fr_sequence *q = p->call->sequence;
    const struct fr_layer *l = p->layer;
    const size_t R = (size_t)l->recurrent, H = (size_t)l->units;
    const size_t to = p->state * (size_t)q->rows + (size_t)p->group->order[r];
    if (q->hn) memmove(q->hn + to * R, pointers->h[r], R * sizeof(float));
    if (q->cn && scratch->c[0]) {
        const float *c = scratch->c[last_step(p, r) & 1] + (size_t)r * fr_unit_row(l);
        memcpy(q->cn + to * H, c, H * sizeof(float));
    }
}

/* The rest of a pass, from step s on, by a thread whose partner is late. The team's memory may still
 * be written by it: only what is complete is read (y up to step s - 1, the c before step s), and
 * everything else is computed again in memory of its own. */
static void run_alone(const struct pass *p, const struct share *team, const struct scratch *own, struct ending from) {
    const struct share share = {.pointers = team->pointers, .scratch = *own, .thread = 0, .threads = 1};
    const int64_t s = from.step;
    if (s == 0) {
        start_states(p, &share); /* the partner may not have come to it */
    } else if (own->c[0]) {
        const size_t bytes = (size_t)p->group->rows * fr_unit_row(p->layer) * sizeof(float);
        memcpy(own->c[0], team->scratch.c[(s + 1) & 1], bytes);
    }
    run_steps(p, &share, s, p->group->steps, from.y_follows);
    for (int64_t r = 0; r < p->group->rows; r++) {
        const int ended_before = s > 0 && last_step(p, r) < s; /* its c is still where the team left it */
        finish_row(p, team->pointers, ended_before ? &team->scratch : own, r);
    }
}

static void run_pass(const struct pass *p, const struct share *share, const struct scratch *take_over) {
    start_states(p, share);
    const struct ending ending = run_steps(p, share, 0, p->group->steps, 0);
    if (ending.meeting == FR_TAKE_OVER) run_alone(p, share, take_over, ending);
    for (int64_t r = 0; r < p->group->rows && ending.meeting == FR_MET && share->thread == 0; r++) {
        finish_row(p, share->pointers, &share->scratch, r);
    }
}

/* ---- the network ------------------------------------------------------------------------------ */

/* The output of a layer: the caller's y for the last one. */
static struct view layer_output(const struct call *call, const struct part *part, int32_t layer, size_t offset) {
    const fr_shape *s = &call->model->shape;
    const size_t F = (size_t)fr_features(s);
    if (call->tape || layer == s->num_layers - 1) return caller_view(call->sequence, &part->group, call->sequence->y, F, offset);
    return inner_view(&part->group, part->between[layer & 1], F, offset);
}

struct pass fr_make_pass(const struct call *call, const struct part *part, int32_t layer, int32_t direction) {
    const fr_shape *s = &call->model->shape;
    const fr_sequence *q = call->sequence;
    const size_t R = (size_t)fr_output_size(s), state = (size_t)(layer * s->num_directions + direction);
    struct pass pass = {.call = call, .layer = &call->model->layers[state], .group = &part->group,
                        .tokens = layer ? NULL : q->tokens, .reverse = direction, .state = state};
    pass.x = layer && !call->tape ? layer_output(call, part, layer - 1, 0)
                                  : caller_view(q, &part->group, (float *)q->x, (size_t)pass.layer->inputs, 0);
    pass.y = part->summands[0] ? inner_view(&part->group, part->summands[direction], R, 0)
                               : layer_output(call, part, layer, R * (size_t)direction);
    if (call->tape) pass.kept = &part->kept[direction];
    if (call->tape && part->record[direction].gates) pass.record = &part->record[direction];
    return pass;
}

/* y = forward + backward, for the rows of one thread. */
static void add_directions(const struct call *call, const struct part *part, int32_t layer, int32_t thread, int32_t threads) {
    const size_t R = (size_t)fr_output_size(&call->model->shape);
    const struct view to = layer_output(call, part, layer, 0);
    const struct view a = inner_view(&part->group, part->summands[0], R, 0);
    const struct view b = inner_view(&part->group, part->summands[1], R, 0);
    for (int64_t r = thread; r < part->group.rows; r += threads) {
        for (int64_t t = 0; t < part->group.length[r]; t++) {
            float *y = view_at(&to, t, r);
            const float *forward = view_at(&a, t, r), *backward = view_at(&b, t, r);
            for (size_t i = 0; i < R; i++) y[i] = forward[i] + backward[i];
        }
    }
}

/* y is zero past the end of a row. */
static void clear_tails(const struct call *call, const struct part *part, int32_t thread, int32_t threads) {
    const size_t F = (size_t)fr_features(&call->model->shape);
    const struct view y = caller_view(call->sequence, &part->group, call->sequence->y, F, 0);
    if (call->sequence->starts) return;
    for (int64_t r = thread; r < part->group.rows; r += threads) {
        for (int64_t t = part->group.length[r]; t < call->sequence->steps; t++) {
            memset(view_at(&y, t, r), 0, F * sizeof(float));
        }
    }
}

/* Part `index` through all layers, by one thread or, if it is the only part, by a team. */
static void run_network(const struct call *call, int32_t index, int32_t thread, int32_t threads) {
    const fr_shape *s = &call->model->shape;
    struct part *part = &call->part[index];
    const int32_t D = s->num_directions;
    const int unit_team = call->mode == UNITS && threads > 1;
    const int32_t first = call->tape ? call->tape->plan.layer : 0;
    const int32_t end = call->tape ? first + 1 : s->num_layers;
    for (int32_t layer = first; layer < end; layer++) {
        for (int32_t direction = 0; direction < D; direction++) {
            if (call->mode == DIRECTIONS && direction % threads != thread) continue;
            const struct pass pass = fr_make_pass(call, part, layer, direction);
            struct share share = {.pointers = &call->pointers[index + thread], .thread = 0, .threads = 1};
            share.scratch = call->scratch[call->mode == DIRECTIONS ? direction : index];
            if (unit_team) {
                share.thread = thread, share.threads = threads;
                share.point = &call->points[pass.state];
                share.no_take_over = call->tape != NULL; /* it would begin with gates that are overwritten */
            }
            run_pass(&pass, &share, call->take_over);
            if (unit_team) wait_for_all(call->pass_end, threads);
        }
        if (call->mode == DIRECTIONS) wait_for_all(call->pass_end, threads);
        if (part->summands[0]) {
            add_directions(call, part, layer, thread, threads);
            wait_for_all(call->pass_end, threads);
        }
    }
    clear_tails(call, part, thread, threads);
}

static void run_thread(void *context, int thread, int threads) {
    struct call *call = context;
    if (call->mode == DIRECTIONS || call->mode == UNITS) {
        run_network(call, 0, thread, threads);
        return;
    }
    for (;;) {
        const int32_t i = __atomic_fetch_add(&call->next_part, 1, __ATOMIC_RELAXED);
        if (i >= call->parts) return;
        run_network(call, i, 0, 1);
    }
}

void fr_forward(const fr_model *model, const fr_sequence *sequence, void *workspace, int32_t threads) {
    struct call call = {.model = model, .sequence = sequence, .tape = sequence->tape, .kernels = fr_active_kernels()};
    struct fr_arena arena = {workspace, 0};
    fr_lay_out_call(&call, sequence->steps, sequence->rows, fr_threads_available() ? threads : 1, &arena);
    const size_t R = (size_t)fr_output_size(&model->shape);
    memset(call.zeros, 0, R * sizeof *call.zeros);
    if (call.tape) fr_tape_begin(&call);
    else fr_deal_rows(sequence, call.parts, call.part, call.sorted, call.count);
    if (call.threads > 1) {
        fr_team_run(call.threads, run_thread, &call);
        return;
    }
    const uint64_t mode = fr_float_mode_enter();
    run_thread(&call, 0, 1);
    fr_float_mode_restore(mode);
}

/* ---- the x part alone ------------------------------------------------------------------------- */

size_t fr_table_size(const fr_model *model, int64_t tokens) {
    const size_t bytes = fr_gate_row(&model->layers[0]) * sizeof(float);
    if (tokens < 0 || model->shape.num_directions != 1) return 0;
    return (size_t)tokens <= SIZE_MAX / 2 / bytes ? (size_t)tokens * bytes : 0;
}

void fr_table_fill(const fr_model *model, int64_t tokens, const float *embedding, float *table) {
    const struct fr_layer *l = &model->layers[0];
    const float *rows[CHUNK_ROWS];
    const uint64_t mode = fr_float_mode_enter();
    for (int64_t first = 0; first < tokens; first += CHUNK_ROWS) {
        const int64_t count = tokens - first < CHUNK_ROWS ? tokens - first : CHUNK_ROWS;
        for (int64_t i = 0; i < count; i++) rows[i] = embedding + (size_t)(first + i) * (size_t)l->inputs;
        const struct fr_input input = {l, rows, table + (size_t)first * fr_gate_row(l), count, 0, l->blocks};
        fr_active_kernels()->input(&input);
    }
    fr_float_mode_restore(mode);
}
