/* The tape: records of one layer in a training call, for its backward pass. */
#include "plan.h"

static int64_t chunks_of(const fr_tape_plan *plan) {
    return (plan->steps + plan->kept_steps - 1) / plan->kept_steps;
}

static int plan_fits(const fr_model *model, const fr_tape_plan *p) {
    const size_t T = (size_t)p->steps, N = (size_t)p->rows;
    return p->layer >= 0 && p->layer < model->shape.num_layers && p->steps >= 1 && p->rows >= 0 &&
           p->steps <= INT64_MAX / 64 && p->rows <= INT32_MAX && p->kept_steps >= 1 &&
           p->kept_steps <= p->steps && p->vocabulary >= 0 &&
           (p->vocabulary == 0 || (p->layer == 0 && model->shape.num_directions == 1)) &&
           p->elements >= 0 && (size_t)p->elements <= fr_times(T, N);
}

/* Multiply-adds of all layers below which training stays in one thread: the phases of a backward
 * pass cost more than those of a forward one. */
enum { LEAST_WORK = 2000000 };

/* Two directions at once need the memory of both at once. */
static enum mode mode_of(const fr_model *model, const fr_tape_plan *p) {
    if (fr_call_macs(model, p->steps, p->rows) < LEAST_WORK) return SERIAL;
    const enum mode mode = fr_choose_mode(model, p->steps, p->rows, p->threads);
    if (mode != DIRECTIONS || p->kept_steps == p->steps) return mode;
    return p->rows >= p->threads ? ROWS : UNITS;
}

static struct kept take_kept(const fr_model *model, const fr_tape_plan *p, int64_t rows,
                             struct fr_arena *arena) {
    const struct fr_layer *l = &model->layers[p->layer * model->shape.num_directions];
    struct kept kept = {.start = fr_take(arena, (size_t)p->steps + 1, sizeof(int64_t))};
    if (fr_cells[l->cell].info.states == 2) {
        const size_t floats =
            fr_times(fr_times((size_t)chunks_of(p), (size_t)rows), fr_unit_row(l));
        kept.c_at = fr_take(arena, floats, sizeof(float));
    }
    if (model->shape.num_directions == 2 && model->shape.merge_sum) {
        kept.h =
            fr_take(arena, fr_times(fr_times((size_t)p->steps, (size_t)rows), (size_t)l->h.inputs),
                    sizeof(float));
    }
    return kept;
}

void fr_take_record(const struct fr_layer *l, size_t rows, struct record *out,
                    struct fr_arena *arena) {
    const fr_cell_info *cell = &fr_cells[l->cell].info;
    struct record record = {.gates = fr_take(arena, fr_times(rows, fr_gate_row(l)), sizeof(float))};
    if (cell->states == 2) record.c = fr_take(arena, fr_times(rows, fr_unit_row(l)), sizeof(float));
    if (cell->phases == 2 || l->projection.outputs) {
        record.u = fr_take(arena, fr_times(rows, fr_unit_row(l)), sizeof(float));
    }
    if (out) *out = record;
}

int fr_plan_tape(const fr_model *model, const fr_tape_plan *plan, fr_tape *tape) {
    if (!plan_fits(model, plan)) return 0;
    *tape = (fr_tape){.plan = *plan, .mode = mode_of(model, plan), .parts = 1};
    if (tape->mode == ROWS)
        tape->parts = plan->rows < plan->threads ? (int32_t)plan->rows : plan->threads;
    return 1;
}

static fr_tape *lay_out(const fr_model *model, const fr_tape_plan *plan, struct fr_arena *arena) {
    const int32_t D = model->shape.num_directions;
    const struct fr_layer *l = &model->layers[plan->layer * D];
    fr_tape *tape = fr_take(arena, 1, sizeof *tape);
    fr_tape out;
    fr_plan_tape(model, plan, &out);
    out.rank = fr_take(arena, (size_t)plan->rows, sizeof *out.rank);
    out.length = fr_take(arena, (size_t)plan->rows, sizeof *out.length);
    out.part = fr_take(arena, (size_t)out.parts, sizeof *out.part);
    for (int32_t i = 0; i < out.parts; i++) {
        struct part part = {.group = {.rows = (int64_t)fr_part_rows(&out, i)}};
        part.group.order = fr_take(arena, (size_t)part.group.rows, sizeof(int64_t));
        part.group.length = fr_take(arena, (size_t)part.group.rows, sizeof(int64_t));
        for (int32_t d = 0; d < D; d++) {
            part.kept[d] = take_kept(model, plan, part.group.rows, arena);
            part.summands[d] = part.kept[d].h;
        }
        if (out.part) out.part[i] = part;
    }
    for (int32_t d = 0; d < D && plan->kept_steps == plan->steps; d++) {
        fr_take_record(l, (size_t)plan->elements, &out.all[d], arena);
    }
    if (tape) *tape = out;
    return tape;
}

size_t fr_tape_size(const fr_model *model, const fr_tape_plan *plan) {
    struct fr_arena arena = {NULL, 0};
    if (!plan_fits(model, plan)) return 0;
    lay_out(model, plan, &arena);
    return fr_used(&arena);
}

fr_tape *fr_tape_create(const fr_model *model, const fr_tape_plan *plan, void *memory) {
    struct fr_arena arena = {memory, 0};
    return plan_fits(model, plan) ? lay_out(model, plan, &arena) : NULL;
}

/* Rows before every step of a pass; returns how many there are in all. */
static int64_t count_rows(const struct group *g, int reverse, int64_t *start) {
    int64_t sum = 0;
    for (int64_t s = 0, n = 0; s < g->steps; s++) {
        start[s] = sum;
        n = alive(g, reverse ? g->steps - 1 - s : s, n);
        sum += n;
    }
    start[g->steps] = sum;
    return sum;
}

struct record fr_record_from(const struct fr_layer *l, const struct record *all, size_t row,
                             const int64_t *start) {
    struct record record = {.start = start, .gates = all->gates + row * fr_gate_row(l)};
    if (all->c) record.c = all->c + row * fr_unit_row(l);
    if (all->u) record.u = all->u + row * fr_unit_row(l);
    return record;
}

void fr_tape_begin(struct call *call) {
    fr_tape *tape = call->tape;
    const fr_shape *s = &call->model->shape;
    const struct fr_layer *l = &call->model->layers[tape->plan.layer * s->num_directions];
    const fr_sequence *q = call->sequence;
    int64_t longest = 0, first = 0;
    fr_deal_rows(q, tape->parts, tape->part, call->sorted, call->count);
    for (int64_t i = 0; i < q->rows; i++) tape->rank[call->sorted[i]] = i;
    for (int64_t n = 0; n < q->rows; n++) {
        tape->length[n] = q->lengths ? q->lengths[n] : q->steps;
        if (tape->length[n] > longest) longest = tape->length[n];
    }
    for (int32_t i = 0; i < tape->parts; i++) {
        struct part *part = &tape->part[i];
        int64_t rows = 0;
        part->group.steps = longest; /* the same for all: a step is the same time in every part */
        for (int32_t d = 0; d < s->num_directions; d++) {
            rows = count_rows(&part->group, d, part->kept[d].start);
            part->record[d] = (struct record){0};
            if (tape->all[d].gates) {
                part->record[d] =
                    fr_record_from(l, &tape->all[d], (size_t)first, part->kept[d].start);
            }
        }
        first += rows;
    }
}
