/* The plan of a backward pass: how many threads it takes, and its memory. */
#include "backward.h"
#include "../matrix/panel.h"

static size_t padded(int32_t n) { return (size_t)((n + FR_GROUP - 1) / FR_GROUP * FR_GROUP); }

static struct work take_work(const struct back *b, size_t N, struct fr_arena *arena) {
    const struct fr_layer *l = b->layers;
    const fr_cell_info *cell = &fr_cells[l->cell].info;
    const fr_tape_plan *plan = &b->call.tape->plan;
    const size_t row = N * fr_unit_row(l), kept = fr_times((size_t)plan->kept_steps, N);
    struct work w = {.dh = fr_take(arena, row, sizeof(float))};
    if (cell->states == 2) w.dc = fr_take(arena, row, sizeof(float));
    if (l->projection.outputs) w.dm = fr_take(arena, row, sizeof(float));
    if (cell->phases == 2) w.du = fr_take(arena, row, sizeof(float));
    for (int i = 0; i < 2 && b->h_apart; i++)
        w.dz_h[i] = fr_take(arena, N * b->h_row, sizeof(float));
    if (cell->phases == 2) w.dz_u = fr_take(arena, N * b->u_row, sizeof(float));
    if (plan->kept_steps < plan->steps) fr_take_record(l, kept, &w.record, arena);
    if (l->projection.outputs) w.dq = fr_take(arena, fr_times(kept, b->dq_row), sizeof(float));
    w.flow = fr_take(arena, fr_times(kept, 2 * (size_t)l->blocks), sizeof(float));
    return w;
}

static struct lists take_lists(const struct back *b, size_t rows, struct fr_arena *arena) {
    const struct fr_layer *l = b->layers;
    struct lists q;
    float ***const writable[] = {&q.gates, &q.dh, &q.dm, &q.du, &q.dz_h, &q.dz_u, &q.dq};
    const float ***const readable[] = {&q.h0, &q.c0, &q.dy};
    for (size_t i = 0; i < sizeof writable / sizeof *writable; i++)
        *writable[i] = fr_take(arena, rows, sizeof(float *));
    for (size_t i = 0; i < sizeof readable / sizeof *readable; i++)
        *readable[i] = fr_take(arena, rows, sizeof(float *));
    q.a = fr_take(arena, FR_PANEL_ROWS, sizeof *q.a);
    q.b = fr_take(arena, FR_PANEL_ROWS, sizeof *q.b);
    q.row = fr_take(arena, FR_PANEL_ROWS + 1, sizeof *q.row);
    q.panel_x = fr_take(arena, fr_panel_floats(l->x.inputs), sizeof(float));
    q.panel_h = fr_take(arena, fr_panel_floats(l->h.inputs), sizeof(float));
    q.panel_u = NULL;
    if (fr_cells[l->cell].info.phases == 2 || l->projection.outputs) {
        q.panel_u = fr_take(arena, fr_panel_floats(l->units), sizeof(float));
    }
    q.compact =
        fr_take(arena, FR_INPUT_ROWS * off_kib((size_t)b->weights->x.inputs), sizeof(float));
    return q;
}

int32_t fr_tape_threads(const fr_tape_plan *plan, int32_t threads) {
    if (threads > plan->threads) threads = plan->threads;
    return threads < 1 ? 1 : threads < FR_MAX_THREADS ? threads : FR_MAX_THREADS;
}

void fr_lay_out_back(struct back *b, int32_t threads, struct fr_arena *arena) {
    const fr_tape *tape = b->call.tape;
    const fr_tape_plan *plan = &tape->plan;
    b->D = b->call.model->shape.num_directions;
    b->layers = &b->call.model->layers[plan->layer * b->D];
    b->threads = threads;
    b->h_apart = fr_num_gates(fr_cells[b->layers->cell].h) != b->layers->slots;
    b->h_row = off_kib((size_t)b->weights->h.inputs);
    b->u_row = off_kib((size_t)b->weights->u.inputs);
    b->dq_row = padded(b->layers->projection.outputs);
    fr_lay_out_call(&b->call, plan->steps, plan->rows, threads, arena);
    const int32_t passes = b->call.parts * b->D;
    b->work = fr_take(arena, (size_t)passes, sizeof *b->work);
    b->pass = fr_take(arena, (size_t)passes, sizeof *b->pass);
    b->lists = fr_take(arena, (size_t)threads, sizeof *b->lists);
    for (int32_t i = 0; i < passes; i++) {
        const struct work work = take_work(b, fr_part_rows(tape, i / b->D), arena);
        if (b->work) b->work[i] = work;
    }
    if (plan->vocabulary) {
        b->by_token = fr_take(arena, fr_times((size_t)plan->vocabulary, fr_gate_row(b->layers)),
                              sizeof(float));
    }
    for (int32_t i = 0; i < threads; i++) {
        const struct lists lists = take_lists(b, fr_part_rows(tape, 0), arena);
        if (b->lists) b->lists[i] = lists;
    }
}

/* Only the sizes of the matrices, for counting. */
static void size_weights(const struct fr_layer *l, struct fr_backward_layer *weights) {
    struct fr_arena nothing = {NULL, 0};
    fr_lay_out_backward(weights, l, &nothing);
}

size_t fr_training_size(const fr_model *model, const fr_tape_plan *plan) {
    fr_tape tape;
    struct fr_backward_layer weights;
    struct fr_arena arena = {NULL, 0};
    if (!fr_plan_tape(model, plan, &tape)) return 0;
    struct back b = {.call = {.model = model, .tape = &tape}, .weights = &weights};
    size_weights(&model->layers[plan->layer * model->shape.num_directions], &weights);
    fr_lay_out_back(&b, fr_tape_threads(plan, plan->threads), &arena); /* fewer threads need less */
    return fr_used(&arena);
}
