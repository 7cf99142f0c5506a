/* A network over whole sequences, operation by operation over all steps, so that every product is
 * one large one. Values have the order of the caller's elements: element t * step_stride + n *
 * row_stride is step t of row n; behind a pool element n is row n. */
#include "slots.h"

#include "../ops/overtime.h"
#include "../time/team.h"

#include <string.h>

enum { LEAST_WORK = 200000 }; /* multiply-adds below which a second thread does not pay */

struct sequences {
    const fr_network *network;
    fr_slots *slots;
    const fr_run *run;
    const float **value; /* (operations) */
    float **buffer;      /* (buffers) */
    float *state[4];     /* h0, c0, hn, cn of a recurrent operation */
    void *workspace;     /* of one operation */
    int32_t threads;
};

static size_t at_least(size_t a, size_t b) { return a > b ? a : b; }

/* ---- memory ------------------------------------------------------------------------------ */

/* Without outputs only what a state depends on is run. */
static int runs(const struct operation *o, int reads) { return !reads || o->is_carried; }

static size_t width_of(const fr_network *n, int32_t buffer, int reads) {
    size_t width = 0;
    for (int32_t i = 0; i < n->num_operations; i++) {
        const struct operation *o = &n->operations[i];
        if (o->buffer == buffer && o->port < 0 && runs(o, reads)) width = at_least(width, o->width);
    }
    return width;
}

static void lay_out(const fr_network *n, int64_t steps, int64_t rows, int32_t threads, int reads,
                    struct sequences *out, struct fr_arena *arena) {
    const size_t N = (size_t)rows, elements = fr_times((size_t)steps, N);
    size_t workspace = 0, width[2] = {0, 0};
    out->value = fr_take(arena, (size_t)n->num_operations, sizeof *out->value);
    out->buffer = fr_take(arena, (size_t)n->num_buffers, sizeof *out->buffer);
    for (int32_t b = 0; b < n->num_buffers; b++) {
        float *memory = fr_take(arena, fr_times(elements, width_of(n, b, reads)), sizeof *memory);
        if (out->buffer) out->buffer[b] = memory;
    }
    for (int32_t i = 0; i < n->num_operations; i++) {
        const struct operation *o = &n->operations[i];
        if (!runs(o, reads)) continue;
        if (o->given.kind == FR_OP_CONV || o->given.kind == FR_OP_CONV_TIME) {
            int64_t unused, past;
            workspace = at_least(workspace, fr_conv_workspace_size(o->given.conv, threads));
            if (fr_network_part(n, i, 0, &unused, &past))
                width[0] = at_least(width[0], (size_t)past);
        }
        if (o->given.kind != FR_OP_RECURRENT) continue;
        const fr_model *model = o->given.model;
        workspace = at_least(workspace, fr_workspace_size(model, steps, rows, threads));
        for (int32_t part = 0; part < 2; part++)
            width[part] = at_least(width[part],
                                   (size_t)o->layout.states * (size_t)fr_part_width(model, part));
    }
    for (int i = 0; i < 4; i++)
        out->state[i] = fr_take(arena, fr_times(N, width[i % 2]), sizeof(float));
    out->workspace = fr_take(arena, workspace, 1);
}

static size_t size_of(const fr_network *network, int64_t steps, int64_t rows, int32_t threads,
                      int reads) {
    struct fr_arena arena = {NULL, 0};
    struct sequences unused;
    lay_out(network, steps, rows, threads, reads, &unused, &arena);
    return fr_used(&arena);
}

size_t fr_run_size(const fr_network *network, int64_t steps, int64_t rows, int32_t threads) {
    return size_of(network, steps, rows, threads, 0);
}

size_t fr_read_size(const fr_network *network, int64_t steps, int64_t rows, int32_t threads) {
    if (fr_network_run_error(network)) return fr_times((size_t)rows, sizeof(int64_t));
    return size_of(network, steps, rows, threads, 1);
}

/* ---- steps of rows ------------------------------------------------------------------------ */

static size_t element(const fr_run *q, int64_t t, int64_t n) {
    return (size_t)(t * q->step_stride + n * q->row_stride);
}

static float *place_of(const struct sequences *s, const struct operation *o) {
    float *y = o->output >= 0 && s->run->outputs ? s->run->outputs[o->output] : NULL;
    return y ? y : s->buffer[o->buffer];
}

static void run_over_time(const struct sequences *s, const struct operation *o, float *y) {
    const fr_run *q = s->run;
    const fr_over_time call = {
        .steps = q->steps,
        .rows = q->rows,
        .width = (int64_t)o->width,
        .step_stride = q->step_stride,
        .row_stride = q->row_stride,
        .lengths = q->lengths,
        .x = s->value[o->given.inputs[0]],
        .y = y,
    };
    if (o->given.kind == FR_OP_FLIP) fr_flip(&call, s->threads);
    else fr_pool(&call, o->given.function, s->threads);
}

/* ---- operations -------------------------------------------------------------------------- */

static void run_recurrent(const struct sequences *s, const struct operation *o, float *y) {
    const fr_operation *g = &o->given;
    const fr_run *q = s->run;
    float *const *parts = fr_parts(s->slots, o, q->rows, s->slots->rows.slot);
    const int has_c = fr_part_width(g->model, 1) != 0;
    const void *x = s->value[g->inputs[0]];
    const int folded = fr_input_of(s->network, o, 0)->given.kind == FR_OP_TOKENS;
    for (int32_t part = 0; part < 1 + has_c; part++)
        fr_read_part(g->model, part, q->rows, parts, s->state[part]);
    const fr_sequence sequence = {
        .steps = q->steps,
        .rows = q->rows,
        .step_stride = q->step_stride,
        .row_stride = q->row_stride,
        .lengths = q->lengths,
        .x = folded ? NULL : x,
        .tokens = folded ? x : NULL,
        .table = folded ? g->table : NULL,
        .y = y,
        .h0 = s->state[0],
        .c0 = has_c ? s->state[1] : NULL,
        .hn = s->state[2],
        .cn = has_c ? s->state[3] : NULL,
    };
    fr_forward(g->model, &sequence, s->workspace, s->threads);
    for (int32_t part = 0; part < 1 + has_c; part++)
        fr_write_part(g->model, part, q->rows, parts, s->state[2 + part], 0);
}

/* One signal of its own length after the other, where rows end before the last step. */
static void convolve_rows(const struct sequences *s, const fr_conv *conv, fr_conv_call call,
                          size_t past, float *next) {
    for (int64_t n = 0; n < s->run->rows; n++) {
        fr_conv_call row = call;
        row.signals = 1, row.length = s->run->lengths[n];
        row.x += n * call.x_signal, row.y += n * call.y_signal;
        if (call.past) row.past += (size_t)n * past;
        if (row.length) fr_conv_forward(conv, &row, s->workspace, s->threads);
        if (call.past) fr_conv_next_past(conv, &row, next + (size_t)n * past);
    }
}

static void run_along_time(const struct sequences *s, const struct operation *o, float *y) {
    const fr_run *q = s->run;
    const fr_conv *conv = o->given.conv;
    const struct operation *x = fr_input_of(s->network, o, 0);
    int64_t one, past;
    const int goes_on = fr_network_part(s->network, o->place, 0, &one, &past);
    if (goes_on) fr_slots_read(s->network, s->slots, o->place, 0, q->rows, NULL, s->state[0]);
    const fr_conv_call call = {
        .signals = q->rows,
        .length = q->steps,
        .x_signal = q->row_stride * x->channels,
        .x_position = q->step_stride * x->channels,
        .y_signal = q->row_stride * o->channels,
        .y_position = q->step_stride * o->channels,
        .x = s->value[x->place],
        .past = goes_on ? s->state[0] : NULL,
        .y = y,
    };
    if (q->lengths) {
        convolve_rows(s, conv, call, (size_t)past, s->state[2]);
    } else {
        fr_conv_forward(conv, &call, s->workspace, s->threads);
        if (goes_on) fr_conv_next_past(conv, &call, s->state[2]);
    }
    if (goes_on) fr_slots_write(s->network, s->slots, o->place, 0, q->rows, NULL, s->state[2]);
}

static void run_convolution(const struct sequences *s, const struct operation *o, float *y) {
    const struct operation *x = fr_input_of(s->network, o, 0);
    const fr_conv_call call = {
        .signals = o->at_end ? s->run->rows : s->run->rows * s->run->steps,
        .length = x->length,
        .x_signal = (int64_t)x->width,
        .x_position = x->channels,
        .y_signal = (int64_t)o->width,
        .y_position = o->channels,
        .x = s->value[x->place],
        .y = y,
    };
    fr_conv_forward(o->given.conv, &call, s->workspace, s->threads);
}

static void run_share(void *context, int share, int shares) {
    const struct task *t = context;
    fr_run_rows(t, t->rows * share / shares, t->rows * (share + 1) / shares);
}

static double work_of(const struct sequences *s, const struct operation *o, int64_t rows) {
    double each = (double)o->width;
    if (o->given.kind == FR_OP_LINEAR) each *= (double)fr_input_of(s->network, o, 0)->channels;
    if (o->given.kind == FR_OP_ACTIVATE) each *= 16;
    return each * (double)rows;
}

static void run_stateless(const struct sequences *s, const struct operation *o, float *y) {
    const int64_t rows = o->at_end ? s->run->rows : s->run->rows * s->run->steps;
    struct task task = {s->network, o, rows, s->value, y};
    fr_divide(work_of(s, o, rows) >= LEAST_WORK, s->threads, run_share, &task);
}

static const float *run_operation(const struct sequences *s, const struct operation *o) {
    if (o->given.kind == FR_OP_INPUT || o->given.kind == FR_OP_TOKENS)
        return s->run->inputs[o->port];
    float *y = place_of(s, o);
    switch (o->given.kind) {
    case FR_OP_RECURRENT:
        run_recurrent(s, o, y);
        break;
    case FR_OP_CONV:
        run_convolution(s, o, y);
        break;
    case FR_OP_CONV_TIME:
        run_along_time(s, o, y);
        break;
    case FR_OP_POOL:
    case FR_OP_FLIP:
        run_over_time(s, o, y);
        break;
    default:
        run_stateless(s, o, y);
    }
    return y;
}

/* Outputs are 0 past the end of their row. */
static void clear_ends(const fr_network *network, const fr_run *q) {
    for (int32_t i = 0; q->lengths && i < network->num_outputs; i++) {
        const struct operation *o = &network->operations[network->outputs[i]];
        float *y = q->outputs[i];
        if (!y || o->at_end) continue;
        for (int64_t n = 0; n < q->rows; n++)
            for (int64_t t = q->lengths[n]; t < q->steps; t++)
                memset(y + element(q, t, n) * o->width, 0, o->width * sizeof *y);
    }
}

static void run_sequences(const fr_network *network, fr_slots *slots, const fr_run *run,
                          void *workspace, int32_t threads) {
    const int reads = !run->outputs;
    struct fr_arena arena = {workspace, 0};
    struct sequences s = {.network = network, .slots = slots, .run = run, .threads = threads};
    if (run->rows == 0) return;
    lay_out(network, run->steps, run->rows, threads, reads, &s, &arena);
    for (int32_t i = 0; i < network->num_operations; i++) {
        const struct operation *o = &network->operations[i];
        if (runs(o, reads)) s.value[i] = run_operation(&s, o);
    }
}

void fr_network_run(const fr_network *network, fr_slots *slots, const fr_run *run, void *workspace,
                    int32_t threads) {
    run_sequences(network, slots, run, workspace, threads);
    clear_ends(network, run);
}

void fr_network_read(const fr_network *network, fr_slots *slots, const fr_run *run, void *workspace,
                     int32_t threads) {
    fr_run quiet = *run;
    quiet.outputs = NULL;
    if (fr_network_run_error(network)) fr_read_steps(network, slots, &quiet, workspace);
    else run_sequences(network, slots, &quiet, workspace, threads);
}
