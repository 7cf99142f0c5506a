/* One step of a network for some of its slots: all operations, one after the other. */
#include "slots.h"

#include "../time/team.h"

#include <string.h>

/* The step at hand. */
struct step {
    const fr_network *network;
    fr_slots *slots;
    int64_t rows;
    float *const *slot; /* (rows) */
    const void *const *inputs;
    float *const *outputs; /* or NULL */
};

/* The caller's place for the value of an operation, or NULL. */
static float *wanted_at(const struct step *s, const struct operation *o) {
    return o->output >= 0 && s->outputs ? s->outputs[o->output] : NULL;
}

static float *place_of(const struct step *s, const struct operation *o) {
    float *y = wanted_at(s, o);
    return y ? y : s->slots->own[o->place];
}

static const float *value_of(const struct step *s, const struct operation *o, int32_t i) {
    return s->slots->value[o->given.inputs[i]];
}

static void copy_rows(float *to, const float *const *from, int64_t rows, size_t width) {
    for (int64_t r = 0; r < rows; r++) memcpy(to + (size_t)r * width, from[r], width * sizeof *to);
}

/* A single row is read where it stands in its slot, unless the caller wants it elsewhere. */
static const float *run_recurrent(const struct step *s, const struct operation *o) {
    const fr_operation *g = &o->given;
    const struct fr_step_memory *m = &s->slots->memory[o->place];
    const float *in = s->slots->value[o->source];
    float *const *parts = fr_parts(s->slots, o, s->rows, s->slot);
    if (o->folded) {
        const int64_t *tokens = (const int64_t *)(const void *)in;
        const size_t row = fr_gate_row(&g->model->layers[0]);
        for (int64_t r = 0; r < s->rows; r++) m->gates[r] = g->table + (size_t)tokens[r] * row;
    } else {
        for (int64_t r = 0; r < s->rows; r++) m->in[r] = in + (size_t)r * o->source_width;
    }
    fr_step_slots(g->model, &o->layout, m, s->rows, parts, o->folded);
    float *y = wanted_at(s, o);
    if (s->rows == 1 && !y) return m->in[0];
    y = y ? y : s->slots->own[o->place];
    copy_rows(y, m->in, s->rows, o->width);
    return y;
}

static const float *run_previous(const struct step *s, const struct operation *o) {
    float *y = place_of(s, o);
    copy_rows(y, (const float *const *)fr_parts(s->slots, o, s->rows, s->slot), s->rows, o->width);
    return y;
}

static const float *run_attention(const struct step *s, const struct operation *o) {
    fr_attention a = *o->given.attention;
    const size_t S = (size_t)a.positions;
    float *const *parts = fr_parts(s->slots, o, s->rows, s->slot);
    for (int64_t r = 0; r < s->rows; r++) s->slots->sources[r] = *fr_source_of(parts[r]);
    a.steps = 1, a.rows = s->rows, a.queries = value_of(s, o, 0), a.sources = s->slots->sources;
    a.weights = s->slots->weights, a.context = place_of(s, o);
    fr_active_kernels()->attend(&a, 0, s->rows);
    for (int64_t r = 0; r < s->rows; r++)
        memcpy(parts[r] + FR_SOURCE_FLOATS, a.weights + (size_t)r * S, S * sizeof *a.weights);
    return a.context;
}

static const float *run_convolution(const struct step *s, const struct operation *o) {
    const struct operation *x = fr_input_of(s->network, o, 0);
    float *y = place_of(s, o);
    const fr_conv_call call = {
        .signals = s->rows,
        .length = x->length,
        .x_signal = (int64_t)x->width,
        .x_position = x->channels,
        .y_signal = (int64_t)o->width,
        .y_position = o->channels,
        .x = value_of(s, o, 0),
        .y = y,
    };
    fr_conv_forward_here(o->given.conv, &call, s->slots->workspace);
    return y;
}

static const float *run_along_time(const struct step *s, const struct operation *o) {
    const float *x = value_of(s, o, 0);
    const size_t width = fr_input_of(s->network, o, 0)->width;
    float *y = place_of(s, o);
    void *const *states = (void *const *)fr_parts(s->slots, o, s->rows, s->slot);
    for (int64_t r = 0; r < s->rows; r++) {
        s->slots->in[r] = x + (size_t)r * width;
        s->slots->out[r] = y + (size_t)r * o->width;
    }
    fr_conv_step(o->given.conv, s->rows, states, s->slots->in, s->slots->out, s->slots->workspace);
    return y;
}

static const float *run_stateless(const struct step *s, const struct operation *o) {
    const struct task task = {s->network, o, s->rows, s->slots->value, place_of(s, o)};
    fr_run_rows(&task, 0, s->rows);
    return task.y;
}

static inline const float *run_operation(const struct step *s, const struct operation *o) {
    switch (o->given.kind) {
    case FR_OP_RECURRENT:
        return run_recurrent(s, o);
    case FR_OP_CONV:
        return run_convolution(s, o);
    case FR_OP_CONV_TIME:
        return run_along_time(s, o);
    case FR_OP_PREVIOUS:
        return run_previous(s, o);
    case FR_OP_ATTEND:
        return run_attention(s, o);
    }
    return run_stateless(s, o);
}

/* Values that the next step will call previous. */
static void keep_values(const struct step *s) {
    const fr_network *n = s->network;
    for (int32_t i = 0; i < n->num_operations; i++) {
        const struct operation *o = &n->operations[i];
        if (o->given.kind != FR_OP_PREVIOUS) continue;
        float *const *parts = fr_parts(s->slots, o, s->rows, s->slot);
        const float *value = value_of(s, o, 0);
        for (int64_t r = 0; r < s->rows; r++)
            memcpy(parts[r], value + (size_t)r * o->width, o->width * sizeof *value);
    }
}

static void run_step(const fr_network *network, fr_slots *slots, int64_t rows, float *const *slot,
                     const void *const *inputs, float *const *outputs) {
    if (rows == 0) return;
    const struct step s = {network, slots, rows, slot, inputs, outputs};
    const uint64_t mode = fr_float_mode_enter();
    for (int32_t i = 0; i < network->num_inputs; i++) slots->value[network->inputs[i]] = inputs[i];
    const int32_t *place = outputs ? network->active : network->carried;
    const int32_t *end = place + (outputs ? network->num_active : network->num_carried);
    for (; place < end; place++)
        slots->value[*place] = run_operation(&s, &network->operations[*place]);
    if (network->has_previous) keep_values(&s);
    fr_float_mode_restore(mode);
}

void fr_network_step(const fr_network *network, fr_slots *slots, int64_t rows, const int64_t *slot,
                     const void *const *inputs, float *const *outputs) {
    run_step(network, slots, rows, fr_chosen(slots, rows, slot), inputs, outputs);
}

void fr_read_steps(const fr_network *network, fr_slots *slots, const fr_run *run, int64_t *tokens) {
    const int64_t *given = run->inputs[0];
    const void *const inputs[] = {tokens};
    for (int64_t t = 0; t < run->steps; t++) {
        int64_t rows = 0;
        for (int64_t n = 0; n < run->rows; n++) {
            if (run->lengths && t >= run->lengths[n]) continue;
            slots->chosen[rows] = slots->rows.slot[n];
            tokens[rows++] = given[t * run->step_stride + n * run->row_stride];
        }
        run_step(network, slots, rows, slots->chosen, inputs, NULL);
    }
}
