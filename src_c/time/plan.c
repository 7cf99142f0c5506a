/* The plan of a call: in how many parts and threads it runs, the memory of each, and whose rows are
 * whose. Nothing here depends on what an array holds but the lengths of rows. */
#include "plan.h"

enum {
    LEAST_WORK = 200000,     /* multiply-adds below which a call stays in one thread */
    LEAST_STEP_WORK = 40000, /* per step, below which a barrier per step does not pay */
    ROWS_PER_THREAD = 4,     /* from here on rows alone hide the reading of weights */
};

static double step_work(const fr_model *model, int64_t rows) {
    double macs = 0;
    for (int32_t i = 0; i < model->shape.num_layers * model->shape.num_directions; i++) {
        const struct fr_layer *l = &model->layers[i];
        macs += (double)fr_cells[l->cell].info.gates * l->units * (l->h.inputs + l->x.inputs);
    }
    return macs * (double)rows;
}

/* Rows need no barrier at all; a unit split keeps the weights of a thread in
 * its own cache, but its threads meet at every step. */
enum mode fr_choose_mode(const fr_model *model, int64_t steps, int64_t rows, int32_t threads) {
    const double work = step_work(model, rows);
    if (threads < 2 || work * (double)steps < LEAST_WORK) return SERIAL;
    if (model->shape.num_directions == 2 && (threads < 4 || rows < threads)) return DIRECTIONS;
    if (rows >= (int64_t)threads * ROWS_PER_THREAD) return ROWS;
    const double passes = model->shape.num_layers * model->shape.num_directions;
    const double bytes = 4 * work / (double)(rows ? rows : 1) / passes / 2;
    if (rows >= threads && bytes <= 1 << 20) return ROWS;
    return work / passes >= LEAST_STEP_WORK ? UNITS : rows >= threads ? ROWS : SERIAL;
}

static void take_scratch(const struct call *call, struct scratch *out, int64_t rows, int alone,
                         struct fr_arena *arena) {
    const fr_shape *s = &call->model->shape;
    const struct fr_layer *l = &call->model->layers[0];
    const fr_cell_info *cell = &fr_cells[s->cell].info;
    const size_t N = (size_t)rows, unit_row = fr_unit_row(l), gate_row = fr_gate_row(l);
    struct scratch scratch = {
        .gates = fr_take(arena, (size_t)call->chunk_rows * gate_row, sizeof(float))};
    if (cell->states == 2) {
        scratch.c[0] = fr_take(arena, N * unit_row, sizeof(float));
        scratch.c[1] = alone ? scratch.c[0] : fr_take(arena, N * unit_row, sizeof(float));
    }
    if (cell->phases == 2 || s->proj_size) scratch.u = fr_take(arena, N * unit_row, sizeof(float));
    if (cell->phases == 2) scratch.saved = fr_take(arena, N * gate_row, sizeof(float));
    if (out) *out = scratch;
}

static void take_pointers(const struct call *call, struct pointers *out, int64_t rows,
                          struct fr_arena *arena) {
    struct pointers p;
    p.in = fr_take(arena, (size_t)call->chunk_rows, sizeof *p.in);
    p.gates = fr_take(arena, (size_t)call->chunk_rows, sizeof *p.gates);
    p.h = fr_take(arena, (size_t)rows, sizeof *p.h);
    p.h1 = fr_take(arena, (size_t)rows, sizeof *p.h1);
    p.out = fr_take(arena, (size_t)rows, sizeof *p.out);
    for (int i = 0; i < 2; i++) p.c[i] = fr_take(arena, (size_t)rows, sizeof *p.c[i]);
    p.saved = fr_take(arena, (size_t)rows, sizeof *p.saved);
    const fr_shape *s = &call->model->shape;
    const int64_t F = fr_features(s),
                  most = F > s->input_size && s->num_layers > 1 ? F : s->input_size;
    p.x_copy =
        fr_take(arena, (size_t)call->chunk_rows * copy_stride((size_t)most), sizeof *p.x_copy);
    p.h_copy =
        fr_take(arena, (size_t)rows * copy_stride((size_t)fr_output_size(s)), sizeof *p.h_copy);
    if (out) *out = p;
}

static void take_part(const struct call *call, struct part *out, int64_t rows, int64_t steps,
                      struct fr_arena *arena) {
    const fr_shape *s = &call->model->shape;
    const size_t elements = fr_times((size_t)rows, (size_t)steps);
    struct part part = {.group = {.rows = rows}};
    part.group.order = fr_take(arena, (size_t)rows, sizeof(int64_t));
    part.group.length = fr_take(arena, (size_t)rows, sizeof(int64_t));
    for (int32_t i = 0; i < 2 && i < s->num_layers - 1; i++) {
        part.between[i] = fr_take(arena, fr_times(elements, (size_t)fr_features(s)), sizeof(float));
    }
    for (int32_t i = 0; i < 2 && s->num_directions == 2 && s->merge_sum; i++) {
        part.summands[i] =
            fr_take(arena, fr_times(elements, (size_t)fr_output_size(s)), sizeof(float));
    }
    if (out) *out = part;
}

static enum mode mode_of(const struct call *call, int64_t steps, int64_t rows, int32_t threads) {
    return call->tape ? call->tape->mode : fr_choose_mode(call->model, steps, rows, threads);
}

double fr_call_macs(const fr_model *model, int64_t steps, int64_t rows) {
    return step_work(model, rows) * (double)steps;
}

int32_t fr_useful_threads(const struct call *call, int64_t steps, int64_t rows, int32_t threads) {
    if (threads > FR_MAX_THREADS) threads = FR_MAX_THREADS;
    if (threads < 2) return 1;
    const enum mode mode = mode_of(call, steps, rows, threads);
    const int64_t most = mode == SERIAL       ? 1
                         : mode == DIRECTIONS ? 2
                         : mode == ROWS       ? rows
                                              : threads;
    return most < threads ? (int32_t)most : threads;
}

void fr_lay_out_call(struct call *call, int64_t steps, int64_t rows, int32_t threads,
                     struct fr_arena *arena) {
    call->mode = mode_of(call, steps, rows, threads);
    call->threads = threads;
    call->parts = call->tape ? call->tape->parts : call->mode == ROWS ? call->threads : 1;
    const int64_t part_rows = (rows + call->parts - 1) / call->parts; /* of the largest part */
    call->chunk_rows = part_rows > CHUNK_ROWS ? part_rows : CHUNK_ROWS;
    if (part_rows && steps < call->chunk_rows / part_rows) call->chunk_rows = part_rows * steps;
    const int32_t scratches = call->mode == DIRECTIONS ? 2 : call->parts;
    call->zeros = fr_take(arena, (size_t)fr_output_size(&call->model->shape), sizeof(float));
    call->sorted = fr_take(arena, (size_t)rows, sizeof *call->sorted);
    call->count = fr_take(arena, (size_t)steps + 2, sizeof *call->count);
    if (!call->tape) call->part = fr_take(arena, (size_t)call->parts, sizeof *call->part);
    call->scratch = fr_take(arena, (size_t)scratches, sizeof *call->scratch);
    call->pointers = fr_take(arena, (size_t)call->threads, sizeof *call->pointers);
    if (call->tape) call->part = call->tape->part; /* its rows are dealt already */
    for (int32_t i = 0; i < call->parts && !call->tape; i++) {
        take_part(call, call->part ? &call->part[i] : NULL,
                  (rows - i + call->parts - 1) / call->parts, steps, arena);
    }
    for (int32_t i = 0; i < scratches; i++) {
        take_scratch(call, call->scratch ? &call->scratch[i] : NULL, part_rows, call->mode != UNITS,
                     arena);
    }
    for (int32_t i = 0; i < call->threads; i++) {
        take_pointers(call, call->pointers ? &call->pointers[i] : NULL, part_rows, arena);
    }
}

/* Enough for every size that a team may have: it is halved while members are missing. */
size_t fr_workspace_size(const fr_model *model, int64_t steps, int64_t rows, int32_t threads) {
    size_t most = 0;
    if (steps < 1 || rows < 0 || rows > INT32_MAX || steps > INT64_MAX / 64) return 0;
    const struct call call = {.model = model};
    for (int32_t n = fr_useful_threads(&call, steps, rows, threads); n >= 1; n /= 2) {
        struct call sized = call;
        struct fr_arena arena = {NULL, 0};
        fr_lay_out_call(&sized, steps, rows, n, &arena);
        if (fr_used(&arena) == 0) return 0;
        if (arena.used > most) most = arena.used;
    }
    return most;
}

static int64_t length_of(const fr_sequence *q, int64_t n) {
    return q->lengths ? q->lengths[n] : q->steps;
}

/* A stable counting sort. */
void fr_deal_rows(const fr_sequence *q, int32_t parts, struct part *part, int64_t *sorted,
                  int64_t *count) {
    const int64_t T = q->steps;
    memset(count, 0, (size_t)(T + 2) * sizeof *count);
    for (int64_t n = 0; n < q->rows; n++) count[T - length_of(q, n) + 1]++;
    for (int64_t i = 0; i < T; i++) count[i + 1] += count[i];
    for (int64_t n = 0; n < q->rows; n++) sorted[count[T - length_of(q, n)]++] = n;
    for (int64_t i = 0; i < q->rows; i++) {
        struct group *g = &part[i % parts].group;
        g->order[i / parts] = sorted[i];
        g->length[i / parts] = length_of(q, sorted[i]);
    }
    for (int32_t i = 0; i < parts; i++) {
        struct group *g = &part[i].group;
        g->steps = g->rows ? g->length[0] : 0;
    }
}
