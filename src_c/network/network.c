/* Networks: operations laid out once, with a place for every value and every state. */
#include "network.h"

#include <string.h>

/* ---- which operations run, and where their values stand ----------------------------------- */

static void mark_carried(struct fr_network *n) {
    for (int32_t i = n->num_operations - 1; i >= 0; i--) {
        struct operation *o = &n->operations[i];
        o->is_carried |= fr_operation_state(o) != 0;
        for (int32_t k = 0; o->is_carried && k < o->given.num_inputs; k++)
            n->operations[o->given.inputs[k]].is_carried = 1;
    }
}

/* Until nothing changes: a previous value is of a later operation, which others lead to. */
static void mark_all_carried(struct fr_network *n) {
    for (int32_t before = -1, now = 0; before != now;) {
        before = now, now = 0;
        mark_carried(n);
        for (int32_t i = 0; i < n->num_operations; i++) now += n->operations[i].is_carried;
    }
}

static void list_active(struct fr_network *n) {
    for (int32_t i = 0; i < n->num_operations; i++) {
        const struct operation *o = &n->operations[i];
        if (o->port >= 0) continue;
        n->active[n->num_active++] = i;
        if (o->is_carried) n->carried[n->num_carried++] = i;
    }
}

static int is_kept_for_next(const struct fr_network *n, int32_t at) {
    for (int32_t i = 0; i < n->num_operations; i++) {
        const fr_operation *g = &n->operations[i].given;
        if (g->kind == FR_OP_PREVIOUS && g->inputs[0] == at) return 1;
    }
    return 0;
}

/* The last operation that reads value `at`. */
static int32_t last_reader(const struct fr_network *n, int32_t at) {
    int32_t last = at;
    if (is_kept_for_next(n, at)) return n->num_operations;
    for (int32_t i = at + 1; i < n->num_operations; i++) {
        const fr_operation *g = &n->operations[i].given;
        for (int32_t k = 0; k < g->num_inputs && g->kind != FR_OP_PREVIOUS; k++)
            if (g->inputs[k] == at) last = i;
    }
    return last;
}

/* Values share buffers: one that nobody reads any more is free for the next value. */
static void assign_buffers(struct fr_network *n, int32_t *busy_until) {
    for (int32_t i = 0; i < n->num_operations; i++) {
        struct operation *o = &n->operations[i];
        int32_t b = 0;
        while (b < n->num_buffers && busy_until[b] >= i) b++;
        if (b == n->num_buffers) n->buffer_size[n->num_buffers++] = 0;
        o->buffer = b;
        busy_until[b] = last_reader(n, i);
        if (n->buffer_size[b] < o->width) n->buffer_size[b] = o->width;
    }
}

/* ---- creation ---------------------------------------------------------------------------- */

static fr_network *take_network(const fr_graph *graph, struct fr_arena *arena) {
    const size_t count = (size_t)graph->num_operations;
    fr_network *n = fr_take(arena, 1, sizeof *n), out = {0};
    out.num_operations = graph->num_operations, out.num_outputs = graph->num_outputs;
    out.operations = fr_take(arena, count, sizeof *out.operations);
    out.active = fr_take(arena, count, sizeof *out.active);
    out.carried = fr_take(arena, count, sizeof *out.carried);
    out.inputs = fr_take(arena, count, sizeof *out.inputs);
    out.outputs = fr_take(arena, (size_t)graph->num_outputs, sizeof *out.outputs);
    out.buffer_size = fr_take(arena, count, sizeof *out.buffer_size);
    if (n) *n = out;
    return n;
}

static void copy_inputs(const fr_operation *given, struct operation *o, struct fr_arena *arena) {
    const size_t count = (size_t)given->num_inputs;
    int32_t *inputs = fr_take(arena, count, sizeof *inputs);
    if (!arena->base) return;
    if (count) memcpy(inputs, given->inputs, count * sizeof *inputs);
    o->given.inputs = inputs;
}

/* Checks that need no memory for shapes. */
static const char *check_counts(const fr_graph *graph) {
    if (graph->num_operations < 1 || graph->num_operations > FR_MAX_OPERATIONS)
        return "a network has 1 to 4096 operations";
    if (graph->num_outputs < 1 || graph->num_outputs > graph->num_operations || !graph->outputs)
        return "a network has at least one output";
    for (int32_t i = 0; i < graph->num_operations; i++) {
        const fr_operation *g = &graph->operations[i];
        if (g->num_inputs < 0 || g->num_inputs > FR_MAX_OPERATIONS || (g->num_inputs && !g->inputs))
            return "inputs are missing";
    }
    return NULL;
}

static const char *take_outputs(const fr_graph *graph, fr_network *n) {
    for (int32_t i = 0; i < graph->num_outputs; i++) {
        const int32_t at = n->outputs[i] = graph->outputs[i];
        if (at < 0 || at >= n->num_operations) return "an output is no operation";
        struct operation *o = &n->operations[at];
        if (o->given.kind == FR_OP_INPUT || o->given.kind == FR_OP_TOKENS || o->output >= 0)
            return "an output is an input, or another output too";
        o->output = i;
    }
    return NULL;
}

static const char *check_previous(fr_network *n) {
    for (int32_t i = 0; i < n->num_operations; i++) {
        const struct operation *o = &n->operations[i];
        if (o->given.kind != FR_OP_PREVIOUS) continue;
        n->has_previous = 1;
        const struct operation *of = fr_input_of(n, o, 0);
        if (of->length != o->length || of->channels != o->channels || of->at_end)
            return "a previous value has another shape than what it is of";
    }
    return NULL;
}

static const char *take_operations(const fr_graph *graph, fr_network *n, struct fr_arena *arena) {
    for (int32_t i = 0; i < n->num_operations; i++) {
        struct operation *o = &n->operations[i];
        const char *error = fr_shape_operation(n->operations, graph, i, o);
        if (error) return error;
        copy_inputs(&graph->operations[i], o, arena);
        o->place = i, o->port = -1;
        if (o->given.kind == FR_OP_INPUT || o->given.kind == FR_OP_TOKENS) {
            n->inputs[n->num_inputs] = i;
            o->port = n->num_inputs++;
        }
        if (o->given.num_inputs && o->given.kind != FR_OP_PREVIOUS) {
            const struct operation *x = fr_input_of(n, o, 0);
            o->source = x->place, o->source_width = x->width;
            o->folded = x->given.kind == FR_OP_TOKENS;
        }
        o->state = n->slot_size;
        const size_t floats = fr_operation_state(o) + FR_GROUP - 1;
        if (__builtin_add_overflow(n->slot_size, floats / FR_GROUP * FR_GROUP, &n->slot_size))
            return "a slot is too large";
    }
    const char *error = take_outputs(graph, n);
    return error ? error : check_previous(n);
}

size_t fr_network_size(const fr_graph *graph) {
    if (check_counts(graph)) return 0;
    struct fr_arena arena = {NULL, 0};
    take_network(graph, &arena);
    for (int32_t i = 0; i < graph->num_operations; i++)
        copy_inputs(&graph->operations[i], NULL, &arena);
    fr_take(&arena, (size_t)graph->num_operations, sizeof(int32_t));
    return fr_used(&arena);
}

const char *fr_network_create(const fr_graph *graph, void *memory, fr_network **network) {
    const char *error = check_counts(graph);
    *network = NULL;
    if (error) return error;
    struct fr_arena arena = {memory, 0};
    memset(memory, 0, fr_network_size(graph));
    fr_network *n = take_network(graph, &arena);
    error = take_operations(graph, n, &arena);
    if (error) return error;
    mark_all_carried(n);
    list_active(n);
    assign_buffers(n, fr_take(&arena, (size_t)n->num_operations, sizeof(int32_t)));
    *network = n;
    return NULL;
}

/* ---- what others ask ---------------------------------------------------------------------- */

int fr_network_shape(const fr_network *network, int32_t operation, int32_t *length,
                     int32_t *channels) {
    const struct operation *o = &network->operations[operation];
    *length = o->length, *channels = o->channels;
    return o->at_end;
}

const char *fr_network_step_error(const fr_network *n) {
    for (int32_t i = 0; i < n->num_operations; i++) {
        const fr_operation *g = &n->operations[i].given;
        if (g->kind == FR_OP_RECURRENT && g->model->shape.num_directions == 2)
            return "a bidirectional layer needs the whole sequence";
        if (g->kind == FR_OP_CONV_TIME && !fr_conv_continues(fr_conv_shape_of(g->conv)))
            return "a convolution that reads steps to come needs the whole sequence";
        if (g->kind == FR_OP_POOL || g->kind == FR_OP_FLIP)
            return "pooling and flipping need the whole sequence";
    }
    return NULL;
}

const char *fr_network_run_error(const fr_network *n) {
    for (int32_t i = 0; i < n->num_operations; i++) {
        const int32_t kind = n->operations[i].given.kind;
        if (kind == FR_OP_PREVIOUS || kind == FR_OP_ATTEND)
            return "a network that reads its own results or a memory goes step by step";
    }
    return NULL;
}
