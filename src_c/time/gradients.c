/* The products over all rows of all steps: gradients of weights, inputs and embeddings. Rows come
 * step after step, the last first, and within a step in the caller's order, so that every sum has
 * one order whatever the division into parts, threads and chunks. */
#include "backward.h"
#include "../matrix/panel.h"

#include <stddef.h>

/* Walks the rows of the steps [s0, s1): the last step first, the rows of the caller in rising
 * order. */
struct walk {
    const struct back *b;
    int32_t d;
    int64_t s, s0, n;
};

static struct walk walk_begin(const struct back *b, int32_t d, int64_t s0, int64_t s1) {
    return (struct walk){b, d, s1 - 1, s0, 0};
}

static int walk_next(struct walk *w, struct row *row) {
    const struct back *b = w->b;
    const fr_tape *tape = b->call.tape;
    const int64_t N = b->call.sequence->rows;
    for (; w->s >= w->s0; w->s--, w->n = 0) {
        const int64_t t = time_of(&b->pass[w->d], w->s);
        for (; w->n < N; w->n++) {
            if (tape->length[w->n] <= t) continue;
            const int64_t rank = tape->rank[w->n], r = rank / tape->parts;
            const size_t at = (size_t)(rank % tape->parts * b->D + w->d);
            const struct pass *p = &b->pass[at];
            const struct work *work = &b->work[at];
            const struct fr_layer *l = p->layer;
            const size_t kept = record_row(&work->record, w->s) + (size_t)r, units = fr_unit_row(l);
            *row = (struct row){
                .gates = work->record.gates + kept * fr_gate_row(l),
                .h0 = fr_h_before(p, w->s, r),
                .u = row_of(work->record.u, kept, units),
                .dq = row_of(work->dq, kept, b->dq_row),
                .c1 = row_of(work->record.c, kept, units),
                .c0 = work->record.c ? c_before(p, &work->record, w->s, w->s0, r) : NULL,
            };
            const size_t element = view_index(&p->x, t, r);
            if (p->tokens) row->token = p->tokens[element];
            else row->x = p->x.base + element * p->x.width;
            if (b->g->dx) row->dx = b->g->dx + element * p->x.width;
            w->n++;
            return 1;
        }
    }
    return 0;
}

static void find_columns(const float **to, const struct row *rows, size_t at, int32_t count,
                         size_t column) {
    for (int32_t k = 0; k < count; k++) {
        to[k] = *(const float *const *)((const char *)&rows[k] + at) + column;
    }
}

static void fill_panel(const struct lists *q, float *panel, size_t at, int32_t count,
                       int32_t width) {
    find_columns(q->a, q->row, at, count, 0);
    fr_fill_panel(panel, q->a, count, width);
}

/* The gradients of up to 16 rows of a weight matrix (and their biases), q->a being found. */
static void add_outer(const struct back *b, const struct lists *q, const float *panel, int32_t rows,
                      float *weight, float *bias, int32_t outputs, int32_t width) {
    float *out[FR_GROUP];
    for (int32_t r = 0; r < outputs; r++) out[r] = weight + (size_t)r * (size_t)width;
    const struct fr_outer outer = {q->a, panel, out, rows, outputs, width};
    if (width) b->call.kernels->outer(&outer);
    const struct fr_columns columns = {q->a, NULL, bias, rows, outputs};
    if (bias) b->call.kernels->columns(&columns);
}

/* Offset of the state that a parameter of a unit is multiplied with, by its letter in cells.def. */
static size_t state_of(char letter) {
    return letter == 'h'   ? offsetof(struct row, h0)
           : letter == 'c' ? offsetof(struct row, c0)
                           : offsetof(struct row, c1);
}

/* Gradients of the parameters that up to 16 units have for themselves, as far as slot `slot` takes
 * them. */
static void add_unit_parameters(const struct back *b, const struct lists *q, const struct row *row,
                                int32_t rows, float *unit_tensor, int32_t slot, int32_t unit,
                                int32_t outputs) {
    const struct fr_cell_data *cell = &fr_cells[b->layers->cell];
    for (int32_t i = 0; i < cell->info.unit_parameters; i++) {
        const char *parameter = cell->unit + 3 * i; /* "3C" */
        if (parameter[0] - '0' != slot) continue;
        find_columns(q->b, row, state_of(parameter[1]), rows, (size_t)unit);
        const struct fr_columns columns = {
            q->a, q->b, unit_tensor + (size_t)i * (size_t)b->layers->units + unit, rows, outputs};
        b->call.kernels->columns(&columns);
    }
}

/* Gradients of 16 gates, to the sums of the rows' tokens. */
static void add_to_tokens(const struct back *b, const float *const *a, const struct row *row,
                          int32_t rows, size_t column) {
    const size_t gate_row = fr_gate_row(b->layers);
    for (int32_t k = 0; k < rows; k++) {
        float *sum = b->by_token + (size_t)row[k].token * gate_row + column;
        for (int32_t i = 0; i < FR_GROUP; i++) sum[i] += a[k][i];
    }
}

/* The weights that a panel of rows adds to: of 16 units of one slot. */
static void add_group(const struct back *b, const struct fr_tensors *g, const struct lists *q,
                      const struct row *row, int32_t rows, int32_t group) {
    const struct fr_layer *l = b->layers;
    const struct fr_cell_data *cell = &fr_cells[l->cell];
    const int32_t column = group * FR_GROUP, U = l->unit, H = l->units;
    const int32_t slot = column / U % l->slots, unit = column / (U * l->slots) * U + column % U;
    const int32_t outputs = H - unit < FR_GROUP ? H - unit : FR_GROUP;
    if (outputs <= 0) return;
    const int64_t x = fr_gate_of(cell->x, slot), h = fr_gate_of(cell->h, slot),
                  u = fr_gate_of(cell->u, slot);
    const size_t I = (size_t)l->x.inputs, R = (size_t)l->h.inputs;
    find_columns(q->a, row, offsetof(struct row, gates), rows, (size_t)column);
    if (x >= 0) {
        const size_t at = (size_t)(x * H + unit);
        if (b->by_token) add_to_tokens(b, q->a, row, rows, (size_t)column);
        add_outer(b, q, q->panel_x, rows, g->ih + at * I, g->b_ih ? g->b_ih + at : NULL, outputs,
                  b->by_token ? 0 : l->x.inputs);
    }
    if (h >= 0 || u >= 0) {
        const size_t at = (size_t)((h >= 0 ? h : u) * H + unit);
        add_outer(b, q, h >= 0 ? q->panel_h : q->panel_u, rows, g->hh + at * R,
                  g->b_hh ? g->b_hh + at : NULL, outputs, h >= 0 ? l->h.inputs : H);
    }
    add_unit_parameters(b, q, row, rows, g->unit, slot, unit, outputs);
}

static void add_panel(const struct back *b, const struct fr_tensors *g, const struct lists *q,
                      int32_t rows, int32_t thread, int32_t threads) {
    const struct fr_layer *l = b->layers;
    const struct row *row = q->row;
    const int32_t P = l->projection.outputs, groups = l->blocks * l->slots * l->unit / FR_GROUP;
    const int32_t projected = (P + FR_GROUP - 1) / FR_GROUP, all = groups + projected;
    if (!b->by_token) fill_panel(q, q->panel_x, offsetof(struct row, x), rows, l->x.inputs);
    fill_panel(q, q->panel_h, offsetof(struct row, h0), rows, l->h.inputs);
    if (q->panel_u) fill_panel(q, q->panel_u, offsetof(struct row, u), rows, l->units);
    for (int32_t i = share_of(all, thread, threads).begin; i < share_of(all, thread, threads).end;
         i++) {
        if (i < groups) {
            add_group(b, g, q, row, rows, i);
            continue;
        }
        const int32_t at = (i - groups) * FR_GROUP, outputs = P - at < FR_GROUP ? P - at : FR_GROUP;
        find_columns(q->a, row, offsetof(struct row, dq), rows, (size_t)at);
        add_outer(b, q, q->panel_u, rows, g->hr + (size_t)at * (size_t)l->units, NULL, outputs,
                  l->units);
    }
}

static void add_weights(const struct back *b, int32_t d, int64_t s0, int64_t s1, int32_t thread,
                        int32_t threads) {
    const fr_shape *s = &b->call.model->shape;
    const struct lists *q = &b->lists[thread];
    if (!b->g->parameters) return;
    const struct fr_tensors g =
        fr_layer_tensors(s, b->call.tape->plan.layer * b->D + d, b->g->parameters);
    struct walk walk = walk_begin(b, d, s0, s1);
    for (int32_t rows = 0, more = 1; more;) {
        more = walk_next(&walk, &q->row[rows]);
        rows += more;
        if (rows == FR_PANEL_ROWS || (!more && rows)) {
            add_panel(b, &g, q, rows, thread, threads);
            rows = 0;
        }
    }
}

/* The slots of x lie between others: side by side for the product. */
static const float *x_slots(const struct fr_layer *l, const float *gates, float *to) {
    const char *part = fr_cells[l->cell].x;
    const size_t U = (size_t)l->unit, all = (size_t)l->slots * U;
    const size_t wide = (size_t)fr_num_gates(part) * U, first = (size_t)fr_first_slot(part) * U;
    if (wide == all) return gates;
    for (size_t block = 0; block < (size_t)l->blocks; block++) {
        memcpy(to + block * wide, gates + block * all + first, wide * sizeof *to);
    }
    return to;
}

static void add_inputs(const struct back *b, int32_t d, int64_t s0, int64_t s1, int32_t thread,
                       int32_t threads) {
    const struct lists *q = &b->lists[thread];
    const struct fr_matrix *m = &b->weights[d].x;
    float *out[FR_INPUT_ROWS];
    const float *in[FR_INPUT_ROWS];
    int64_t total = 0;
    if (!b->g->dx || !m->outputs) return;
    for (int32_t i = 0; i < b->call.parts; i++) {
        const int64_t *start = b->work[i * b->D + d].record.start;
        total += start[s1] - start[s0];
    }
    const int64_t first = total * thread / threads, last = total * (thread + 1) / threads;
    struct walk walk = walk_begin(b, d, s0, s1);
    struct row row;
    int64_t rows = 0;
    for (int64_t i = 0; i < last && walk_next(&walk, &row); i++) {
        if (i < first) continue;
        in[rows] =
            x_slots(b->layers, row.gates, q->compact + (size_t)rows * off_kib((size_t)m->inputs));
        out[rows++] = row.dx;
        if (rows < FR_INPUT_ROWS && i + 1 < last) continue;
        const struct fr_product product = {
            m, in, out, rows, 0, m->blocks, .accumulate = d > 0, .reversed = 0};
        b->call.kernels->product(&product);
        rows = 0;
    }
}

/* weight_ih's gradient from the sums per token: of a thread's own rows. */
static void add_token_weights(const struct back *b, int32_t thread, int32_t threads) {
    const struct fr_layer *l = b->layers;
    const struct lists *q = &b->lists[thread];
    const size_t I = (size_t)l->x.inputs, gate_row = fr_gate_row(l);
    const int32_t groups = l->blocks * l->slots * l->unit / FR_GROUP, U = l->unit, H = l->units;
    const int64_t V = b->call.tape->plan.vocabulary;
    const struct fr_tensors g = fr_layer_tensors(&b->call.model->shape, 0, b->g->parameters);
    for (int64_t first = 0; first < V; first += FR_PANEL_ROWS) {
        const int32_t rows = V - first < FR_PANEL_ROWS ? (int32_t)(V - first) : FR_PANEL_ROWS;
        for (int32_t k = 0; k < rows; k++) q->a[k] = b->g->embedding + (size_t)(first + k) * I;
        fr_fill_panel(q->panel_x, q->a, rows, l->x.inputs);
        for (int32_t i = share_of(groups, thread, threads).begin;
             i < share_of(groups, thread, threads).end; i++) {
            const int32_t column = i * FR_GROUP, slot = column / U % l->slots;
            const int32_t unit = column / (U * l->slots) * U + column % U;
            const int32_t outputs = H - unit < FR_GROUP ? H - unit : FR_GROUP;
            const int64_t x = fr_gate_of(fr_cells[l->cell].x, slot);
            if (x < 0 || outputs <= 0) continue;
            for (int32_t k = 0; k < rows; k++)
                q->a[k] = b->by_token + (size_t)(first + k) * gate_row + column;
            add_outer(b, q, q->panel_x, rows, g.ih + (size_t)(x * H + unit) * I, NULL, outputs,
                      l->x.inputs);
        }
    }
}

/* The embedding's gradient likewise. */
static void add_token_inputs(const struct back *b, int32_t thread, int32_t threads) {
    const struct lists *q = &b->lists[thread];
    const struct fr_matrix *m = &b->weights[0].x;
    const int64_t V = b->call.tape->plan.vocabulary;
    float *out[FR_INPUT_ROWS];
    const float *in[FR_INPUT_ROWS];
    int32_t rows = 0;
    for (int64_t v = V * thread / threads, last = V * (thread + 1) / threads; v < last; v++) {
        const float *sums = b->by_token + (size_t)v * fr_gate_row(b->layers);
        in[rows] = x_slots(b->layers, sums, q->compact + (size_t)rows * off_kib((size_t)m->inputs));
        out[rows++] = b->g->dembedding + (size_t)v * (size_t)m->outputs;
        if (rows < FR_INPUT_ROWS && v + 1 < last) continue;
        const struct fr_product product = {
            m, in, out, rows, 0, m->blocks, .accumulate = 1, .reversed = 0};
        b->call.kernels->product(&product);
        rows = 0;
    }
}

/* Sums over the rows of every step, in the caller's order. */
static void add_flow(const struct back *b, int32_t d, int64_t s0, int64_t s1) {
    const fr_tape *tape = b->call.tape;
    const size_t blocks = (size_t)b->layers->blocks;
    for (int64_t s = s0; b->g->flow && s < s1; s++) {
        const int64_t t = time_of(&b->pass[d], s);
        double square = 0, saturated = 0;
        for (int64_t n = 0; n < b->call.sequence->rows; n++) {
            if (tape->length[n] <= t) continue;
            const int64_t rank = tape->rank[n];
            const struct work *w = &b->work[rank % tape->parts * b->D + d];
            const size_t kept = record_row(&w->record, s) + (size_t)(rank / tape->parts);
            for (size_t i = 0; i < blocks; i++) {
                square += (double)w->flow[2 * (kept * blocks + i)];
                saturated += (double)w->flow[2 * (kept * blocks + i) + 1];
            }
        }
        float *to = b->g->flow + 2 * (d * b->call.sequence->steps + t);
        to[0] = (float)square, to[1] = (float)saturated;
    }
}

void fr_add_gradients(const struct back *b, int32_t d, int64_t s0, int64_t s1, int32_t thread,
                      int32_t threads) {
    if (thread == 0) add_flow(b, d, s0, s1);
    add_weights(b, d, s0, s1, thread, threads);
    add_inputs(b, d, s0, s1, thread, threads);
}

void fr_add_token_gradients(const struct back *b, int32_t thread, int32_t threads) {
    add_token_weights(b, thread, threads);
    if (b->g->dembedding) add_token_inputs(b, thread, threads);
}
