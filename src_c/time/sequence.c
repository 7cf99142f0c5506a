/* Whole sequences: time, rows, layers, directions, teams. Knows no gate and no intrinsic.
 *
 * The x part of many steps is one product (a chunk of steps, at least CHUNK_ROWS rows together);
 * then the steps of that chunk run one after the other on the h part. How steps and rows are
 * counted stands in sequence.h.
 */
#include "sequence.h"

/* ---- one pass ---------------------------------------------------------------------------- */

/* The units of some blocks: floats of a row, from the first to behind the last. */
static size_t first_unit(const struct fr_layer *l, int32_t block) {
    return (size_t)block * (size_t)l->unit;
}

/* c before the first step, for some blocks: given, or as the tape has kept it. */
static void start_c(const struct pass *p, const struct share *share, int64_t s,
                    struct range blocks) {
    const struct fr_layer *l = p->layer;
    const fr_sequence *q = p->call->sequence;
    const size_t H = (size_t)l->units, row = fr_unit_row(l), N = (size_t)q->rows;
    const size_t first = first_unit(l, blocks.begin), last = first_unit(l, blocks.end);
    const size_t units = first < H ? (last < H ? last : H) - first : 0;
    for (size_t r = 0; r < (size_t)p->group->rows && fr_cells[l->cell].info.states == 2; r++) {
        const size_t from = p->state * N + (size_t)p->group->order[r];
        for (int i = 0; i < 2; i++) {
            float *c = share->scratch.c[i] + r * row + first;
            if (p->again) {
                memcpy(c, kept_c(p, s) + r * row + first, (last - first) * sizeof *c);
                continue;
            }
            memset(c, 0, (last - first) * sizeof *c);
            if (q->c0) memcpy(c, q->c0 + from * H + first, units * sizeof *c);
        }
    }
}

/* Finds the x (or the gates) of the chunk that starts at step s; returns the step after it. */
static int64_t gather_chunk(const struct pass *p, const struct share *share, int64_t s,
                            int64_t until, int64_t *rows) {
    const size_t gate_row = fr_gate_row(p->layer);
    float *gates =
        p->record ? p->record->gates + record_row(p->record, s) * gate_row : share->scratch.gates;
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
    if (!p->tokens && p->layer->x.inputs && *rows > 1 && rows_meet(in[0], in[1])) {
        copy_apart(share->pointers->x_copy, in, *rows, (size_t)p->layer->x.inputs);
    }
    return s;
}

/* Places of the slots of a step: on the tape, or for a second phase. */
static float *const *find_saved(const struct pass *p, const struct share *share, size_t kept,
                                int64_t rows) {
    float **saved = share->pointers->saved;
    if (!p->record && !share->scratch.saved) return NULL;
    float *first =
        p->record ? p->record->gates + kept * fr_gate_row(p->layer) : share->scratch.saved;
    for (int64_t r = 0; r < rows; r++) saved[r] = first + (size_t)r * fr_gate_row(p->layer);
    return saved;
}

/* Keeps some blocks of c as they are before step s, which begins a chunk. */
static void keep_c(const struct pass *p, const struct share *share, int64_t s,
                   struct range blocks) {
    const size_t unit_row = fr_unit_row(p->layer);
    const size_t first = first_unit(p->layer, blocks.begin),
                 last = first_unit(p->layer, blocks.end);
    const float *c = share->scratch.c[(s + 1) & 1];
    for (size_t r = 0; r < (size_t)p->group->rows; r++) {
        memcpy(kept_c(p, s) + r * unit_row + first, c + r * unit_row + first,
               (last - first) * sizeof *c);
    }
}

/* Work for its blocks that a step does first. */
struct opening {
    int64_t step;
    int64_t x_rows; /* > 0: a chunk begins here, whose x part is one product */
    int starts;     /* a pass begins here */
};

static void copy_groups(float *to, const float *from, size_t begin, size_t end) {
    for (size_t i = begin * FR_GROUP; i < end * FR_GROUP; i += FR_GROUP)
        memcpy(to + i, from + i, FR_GROUP * sizeof *to);
}

/* The slots that no x part fills start from their bias; only cells with several slots have any. */
static void fill_slots_without_x(const struct fr_layer *l, float *const *gates, int64_t rows,
                                 struct range blocks) {
    const char *part = fr_cells[l->cell].x;
    const size_t slots = (size_t)l->slots, first = (size_t)fr_first_slot(part);
    const size_t last = first + (size_t)fr_num_gates(part);
    for (int64_t r = 0; r < rows && last - first < slots; r++) {
        for (int32_t block = blocks.begin; block < blocks.end; block++) {
            const size_t at = (size_t)block * slots * FR_GROUP;
            copy_groups(gates[r] + at, l->bias + at, 0, first);
            copy_groups(gates[r] + at, l->bias + at, last, slots);
        }
    }
}

/* gates = bias + W_ih x for some blocks. */
static void run_x_part(const struct fr_kernels *kernels, const struct fr_layer *l,
                       const float *const *x, float *const *gates, int64_t rows,
                       struct range blocks) {
    const struct fr_product product = {&l->x,        x,          gates,          rows,
                                       blocks.begin, blocks.end, .accumulate = 0};
    fill_slots_without_x(l, gates, rows, blocks);
    kernels->product(&product);
}

static void open_blocks(const struct pass *p, const struct share *share,
                        const struct opening *opening, struct range blocks) {
    if (opening->starts) start_c(p, share, opening->step, blocks);
    if (p->kept && p->kept->c_at && !p->again &&
        opening->step % p->call->tape->plan.kept_steps == 0) {
        keep_c(p, share, opening->step, blocks);
    }
    if (opening->x_rows) {
        run_x_part(p->call->kernels, p->layer, share->pointers->in,
                   (float *const *)share->pointers->gates, opening->x_rows, blocks);
    }
}

/* One step, with the phases that need all blocks of the one before. Whoever does the first share
 * of some blocks also makes what the step needs of them: their c, and the x part of the chunk
 * that it begins. */
static void run_step(const struct pass *p, const struct share *share, struct fr_step *step,
                     const struct opening *opening) {
    const struct fr_layer *l = p->layer;
    const struct fr_cell_kernels *cell = fr_cell_kernels(p->call->kernels, l);
    const struct fr_matrix *projection = l->projection.outputs ? &l->projection : NULL;
    struct fr_member *member = share->member;
    for (int32_t i; (i = fr_next_share(member)) >= 0;) {
        const struct range blocks = share_of(l->blocks, i, member->threads);
        step->begin = blocks.begin, step->end = blocks.end;
        open_blocks(p, share, opening, blocks);
        cell->step(step);
    }
    if (member->gone || !(projection || cell->second)) return;
    for (int32_t i; (i = fr_next_share(member)) >= 0;) {
        const struct range blocks = share_of(l->blocks, i, member->threads);
        step->begin = blocks.begin, step->end = blocks.end;
        if (cell->second) cell->second(step);
        if (!projection) continue;
        const struct range outputs = share_of(projection->blocks, i, member->threads);
        const struct fr_product product = {
            projection,           (const float *const *)share->pointers->h1,
            share->pointers->out, step->rows,
            outputs.begin,        outputs.end,
            .accumulate = 0,      .reversed = 0,
        };
        p->call->kernels->product(&product);
    }
}

/* Points at everything that step s of n rows reads and writes. */
static struct fr_step prepare_step(const struct pass *p, const struct share *share, int64_t s,
                                   int64_t n) {
    const struct fr_layer *l = p->layer;
    const struct pointers *q = share->pointers;
    const struct record *record = p->record;
    const size_t unit_row = fr_unit_row(l), kept = record ? record_row(record, s) : 0;
    float *u = record && record->u ? record->u + kept * unit_row : share->scratch.u;
    for (int64_t r = 0; r < n; r++) {
        q->out[r] = view_at(&p->y, time_of(p, s), r);
        q->h1[r] = l->projection.outputs ? u + (size_t)r * unit_row : q->out[r];
    }
    return (struct fr_step){
        .layer = l,
        .h0 = q->h,
        .h1 = q->h1,
        .c0 = (const float *const *)q->c[(s + 1) & 1],
        .c1 = q->c[s & 1],
        .saved = find_saved(p, share, kept, n),
        .c_saved = record && record->c ? record->c + kept * unit_row : NULL,
        .u = u,
        .rows = (int32_t)n,
        .reversed = (int32_t)(s & 1),
    };
}

/* The steps [s, until) of one pass. */
static void run_steps(const struct pass *p, const struct share *share, int64_t s, int64_t until) {
    const struct pointers *q = share->pointers;
    const size_t R = (size_t)p->layer->h.inputs;
    const int64_t start = s;
    for (int64_t r = 0; r < p->group->rows; r++) {
        q->h[r] = fr_h_before(p, s, r);
        for (int i = 0; i < 2 && share->scratch.c[i]; i++)
            q->c[i][r] = share->scratch.c[i] + (size_t)r * fr_unit_row(p->layer);
    }
    for (int64_t chunk_end, rows, at; s < until;) {
        const int64_t chunk = s;
        chunk_end = gather_chunk(p, share, s, until, &rows);
        const int fused = chunk_end - s == 1 && rows <= FR_TILE_ROWS && !p->tokens && !p->record;
        at = 0;
        for (int64_t n = 0; s < chunk_end; s++, at += n) {
            n = alive(p->group, time_of(p, s), n);
            const struct opening opening = {s, s == chunk && !fused && !p->tokens ? rows : 0,
                                            s == start};
            struct fr_step step = prepare_step(p, share, s, n);
            step.x = fused ? q->in : NULL, step.gates = fused ? NULL : q->gates + at;
            run_step(p, share, &step, &opening);
            if (share->member->gone) return;
            for (int64_t r = 0; r < n; r++) q->h[r] = q->out[r];
            if (n > 1 && rows_meet(q->h[0], q->h[1])) copy_apart(q->h_copy, q->h, n, R);
        }
    }
}

const float *fr_h_before(const struct pass *p, int64_t s, int64_t r) {
    const fr_sequence *q = p->call->sequence;
    const int64_t t = time_of(p, s), before = p->reverse ? t + 1 : t - 1;
    if (before >= 0 && before < p->group->length[r]) return view_at(&p->y, before, r);
    const size_t from = p->state * (size_t)q->rows + (size_t)p->group->order[r];
    return q->h0 ? q->h0 + from * (size_t)p->layer->h.inputs : p->call->zeros;
}

void fr_run_again(const struct pass *p, const struct share *share, int64_t s0, int64_t s1) {
    struct pass again = *p;
    again.again = 1;
    run_steps(&again, share, s0, s1);
}

/* Writes a row's own last state: after step s its c is in c[s & 1]. */
static void finish_row(const struct pass *p, const struct share *share, int64_t r) {
    const fr_sequence *q = p->call->sequence;
    const size_t R = (size_t)p->layer->h.inputs, H = (size_t)p->layer->units;
    const size_t to = p->state * (size_t)q->rows + (size_t)p->group->order[r];
    const int64_t last = last_step(p, r);
    if (q->hn) memmove(q->hn + to * R, share->pointers->h[r], R * sizeof(float));
    if (!q->cn || fr_cells[p->layer->cell].info.states != 2) return;
    if (last >= 0)
        memcpy(q->cn + to * H, share->scratch.c[last & 1] + (size_t)r * fr_unit_row(p->layer),
               H * sizeof(float));
    else if (q->c0) memmove(q->cn + to * H, q->c0 + to * H, H * sizeof(float));
    else memset(q->cn + to * H, 0, H * sizeof(float));
}

static void run_pass(const struct pass *p, const struct share *share) {
    struct fr_member *member = share->member;
    run_steps(p, share, 0, p->group->steps);
    if (member->gone) return;
    for (int32_t i; (i = fr_next_share(member)) >= 0;) {
        for (int64_t r = i; r < p->group->rows; r += member->threads) finish_row(p, share, r);
    }
}

/* ---- the network ------------------------------------------------------------------------- */

/* The output of a layer: the caller's y for the last one. */
static struct view layer_output(const struct call *call, const struct part *part, int32_t layer,
                                size_t offset) {
    const fr_shape *s = &call->model->shape;
    const size_t F = (size_t)fr_features(s);
    if (call->tape || layer == s->num_layers - 1)
        return caller_view(call->sequence, &part->group, call->sequence->y, F, offset);
    return inner_view(&part->group, part->between[layer & 1], F, offset);
}

struct pass fr_make_pass(const struct call *call, const struct part *part, int32_t layer,
                         int32_t direction) {
    const fr_shape *s = &call->model->shape;
    const fr_sequence *q = call->sequence;
    const size_t R = (size_t)fr_output_size(s),
                 state = (size_t)(layer * s->num_directions + direction);
    struct pass pass = {.call = call,
                        .layer = &call->model->layers[state],
                        .group = &part->group,
                        .tokens = layer ? NULL : q->tokens,
                        .reverse = direction,
                        .state = state};
    pass.x = layer && !call->tape
                 ? layer_output(call, part, layer - 1, 0)
                 : caller_view(q, &part->group, (float *)q->x, (size_t)pass.layer->x.inputs, 0);
    pass.y = part->summands[0] ? inner_view(&part->group, part->summands[direction], R, 0)
                               : layer_output(call, part, layer, R * (size_t)direction);
    if (call->tape) pass.kept = &part->kept[direction];
    if (call->tape && part->record[direction].gates) pass.record = &part->record[direction];
    return pass;
}

/* y = forward + backward, for the rows of one thread. */
static void add_directions(const struct call *call, const struct part *part, int32_t layer,
                           int32_t thread, int32_t threads) {
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
static void clear_tails(const struct call *call, const struct part *part, int32_t thread,
                        int32_t threads) {
    const size_t F = (size_t)fr_features(&call->model->shape);
    const struct view y = caller_view(call->sequence, &part->group, call->sequence->y, F, 0);
    if (call->sequence->starts) return;
    for (int64_t r = thread; r < part->group.rows; r += threads) {
        for (int64_t t = part->group.length[r]; t < call->sequence->steps; t++) {
            memset(view_at(&y, t, r), 0, F * sizeof(float));
        }
    }
}

/* A layer's passes: the members share the units of each, or the directions. */
static void run_layer(const struct call *call, int32_t index, int32_t layer,
                      struct pointers *pointers, struct fr_member *member) {
    const struct part *part = &call->part[index];
    const int32_t D = call->model->shape.num_directions;
    if (call->mode != DIRECTIONS) {
        const struct share share = {pointers, call->scratch[index], member};
        for (int32_t direction = 0; direction < D && !member->gone; direction++) {
            const struct pass pass = fr_make_pass(call, part, layer, direction);
            run_pass(&pass, &share);
        }
        return;
    }
    for (int32_t i; (i = fr_next_share(member)) >= 0;) {
        for (int32_t direction = i; direction < D; direction += member->threads) {
            struct fr_member alone = FR_ALONE;
            const struct share share = {pointers, call->scratch[direction], &alone};
            const struct pass pass = fr_make_pass(call, part, layer, direction);
            run_pass(&pass, &share);
        }
    }
}

/* Part `index` through all layers, by one thread or, if it is the only part, by a team. */
static void run_network(const struct call *call, int32_t index, struct pointers *pointers,
                        struct fr_member *member) {
    const struct part *part = &call->part[index];
    const int32_t first = call->tape ? call->tape->plan.layer : 0;
    const int32_t end = call->tape ? first + 1 : call->model->shape.num_layers;
    for (int32_t layer = first; layer < end; layer++) {
        run_layer(call, index, layer, pointers, member);
        if (member->gone) return;
        if (!part->summands[0]) continue;
        for (int32_t i; (i = fr_next_share(member)) >= 0;)
            add_directions(call, part, layer, i, member->threads);
        if (member->gone) return;
    }
    for (int32_t i; (i = fr_next_share(member)) >= 0;) clear_tails(call, part, i, member->threads);
}

static void run_member(void *context, struct fr_member *member) {
    struct call *call = context;
    struct pointers *pointers = &call->pointers[member->thread];
    if (call->mode == DIRECTIONS || call->mode == UNITS) {
        run_network(call, 0, pointers, member);
        return;
    }
    for (int32_t i; (i = fr_next_share(member)) >= 0;) {
        for (int32_t part = i; part < call->parts; part += member->threads) {
            struct fr_member alone = FR_ALONE;
            run_network(call, part, pointers, &alone);
        }
    }
}

void fr_forward(const fr_model *model, const fr_sequence *sequence, void *workspace,
                int32_t threads) {
    struct call call = {.model = model,
                        .sequence = sequence,
                        .tape = sequence->tape,
                        .kernels = fr_active_kernels()};
    struct fr_arena arena = {workspace, 0};
    struct fr_member member;
    threads = fr_useful_threads(&call, sequence->steps, sequence->rows, threads);
    threads =
        fr_team_gather(&member, threads, fr_call_macs(model, sequence->steps, sequence->rows));
    fr_lay_out_call(&call, sequence->steps, sequence->rows, threads, &arena);
    memset(call.zeros, 0, (size_t)fr_output_size(&model->shape) * sizeof *call.zeros);
    if (call.tape) fr_tape_begin(&call);
    else fr_deal_rows(sequence, call.parts, call.part, call.sorted, call.count);
    fr_team_run(&member, run_member, &call);
}

/* ---- the x part alone -------------------------------------------------------------------- */

size_t fr_table_size(const fr_model *model, int64_t tokens) {
    const size_t bytes = fr_gate_row(&model->layers[0]) * sizeof(float);
    if (tokens < 0 || model->shape.num_directions != 1) return 0;
    return (size_t)tokens <= SIZE_MAX / 2 / bytes ? (size_t)tokens * bytes : 0;
}

void fr_table_fill(const fr_model *model, int64_t tokens, const float *embedding, float *table) {
    const struct fr_layer *l = &model->layers[0];
    const struct fr_kernels *kernels = fr_active_kernels();
    const float *rows[CHUNK_ROWS];
    float *gates[CHUNK_ROWS];
    const uint64_t mode = fr_float_mode_enter();
    for (int64_t first = 0; first < tokens; first += CHUNK_ROWS) {
        const int64_t count = tokens - first < CHUNK_ROWS ? tokens - first : CHUNK_ROWS;
        for (int64_t i = 0; i < count; i++) {
            rows[i] = embedding + (size_t)(first + i) * (size_t)l->x.inputs;
            gates[i] = table + (size_t)(first + i) * fr_gate_row(l);
        }
        run_x_part(kernels, l, rows, gates, count, (struct range){0, l->blocks});
    }
    fr_float_mode_restore(mode);
}
