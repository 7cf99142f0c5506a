#include "windows.h"
#include "../time/team.h"

enum { SLACK = 16 }; /* steps of a stream from one move of its past to the next, at least */

struct fr_conv {
    fr_conv_shape shape;
    struct fr_matrix *maps; /* (g): from windows to outputs; NULL of a depthwise one, which has */
    struct fr_taps taps;
};

/* ---- shapes ------------------------------------------------------------------------------ */

const char *fr_conv_error(const fr_conv_shape *s) {
    const int32_t sizes[] = {s->inputs, s->outputs, s->kernel, s->stride, s->dilation, s->groups};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        if (sizes[i] < 1 || sizes[i] > FR_MAX_SIZE) return "a size is not in 1 to 1048576";
    if (s->before < 0 || s->after < 0 || s->before > FR_MAX_SIZE || s->after > FR_MAX_SIZE)
        return "a padding is not in 0 to 1048576";
    if (s->inputs % s->groups || s->outputs % s->groups)
        return "groups must divide the channels in and out";
    if ((int64_t)s->kernel * group_inputs(s) > FR_MAX_SIZE)
        return "a window has more than 1048576 values";
    return NULL;
}

int64_t fr_conv_length(const fr_conv_shape *s, int64_t length) {
    const int64_t room = length + s->before + s->after - reach(s) - 1;
    return room < 0 ? 0 : room / s->stride + 1;
}

int fr_conv_continues(const fr_conv_shape *s) {
    return s->stride == 1 && s->after == 0 && s->before == reach(s);
}

/* ---- memory ------------------------------------------------------------------------------ */

struct fr_matrix *fr_lay_out_conv(const fr_conv_shape *s, int32_t inputs, int32_t outputs,
                                  struct fr_arena *arena) {
    struct fr_matrix scratch, *maps = fr_take(arena, (size_t)s->groups, sizeof *maps);
    for (int32_t g = 0; g < s->groups; g++)
        fr_lay_out_matrix(maps ? &maps[g] : &scratch, inputs, outputs, arena);
    return maps;
}

static fr_conv *lay_out(const fr_conv_shape *s, struct fr_arena *arena) {
    fr_conv *conv = fr_take(arena, 1, sizeof *conv), out = {*s, NULL, {0}};
    if (is_depthwise(s)) fr_lay_out_taps(s, &out.taps, arena);
    else out.maps = fr_lay_out_conv(s, window_floats(s), group_outputs(s), arena);
    if (conv) *conv = out;
    return conv;
}

size_t fr_conv_size(const fr_conv_shape *shape) {
    struct fr_arena arena = {NULL, 0};
    if (fr_conv_error(shape)) return 0;
    lay_out(shape, &arena);
    return fr_used(&arena);
}

fr_conv *fr_conv_create(const fr_conv_shape *shape, void *memory) {
    struct fr_arena arena = {memory, 0};
    const size_t size = fr_conv_size(shape);
    if (size == 0) return NULL;
    memset(memory, 0, size);
    return lay_out(shape, &arena);
}

const fr_conv_shape *fr_conv_shape_of(const fr_conv *conv) { return &conv->shape; }

/* PyTorch's (O, C / g, K) has k fastest, a window c. */
void fr_pack_conv(const fr_conv_shape *s, const struct fr_matrix *maps, int backwards,
                  const float *weight) {
    const int32_t outputs = group_outputs(s), inputs = group_inputs(s);
    for (int32_t o = 0; o < s->outputs; o++) {
        const struct fr_matrix *m = &maps[o / outputs];
        const int32_t output = o % outputs;
        for (int32_t c = 0; c < inputs; c++) {
            for (int32_t k = 0; k < s->kernel; k++) {
                const int32_t at = k * inputs + c;
                *(backwards ? fr_weight_at(m, output, at) : fr_weight_at(m, at, output)) =
                    *weight++;
            }
        }
    }
}

void fr_conv_load(fr_conv *conv, const float *weight, const float *bias) {
    const fr_conv_shape *s = &conv->shape;
    const int32_t outputs = group_outputs(s);
    if (is_depthwise(s)) {
        fr_load_taps(s, &conv->taps, weight, bias);
        return;
    }
    fr_pack_conv(s, conv->maps, 0, weight);
    for (int32_t o = 0; o < s->outputs; o++)
        conv->maps[o / outputs].bias[o % outputs] = bias ? bias[o] : 0.0f;
}

/* ---- forward ----------------------------------------------------------------------------- */

/* At most scratch_rows outputs. */
static void run_block(const fr_conv *conv, const fr_conv_call *c, const struct place *places,
                      int64_t count, float *scratch) {
    const fr_conv_shape *s = &conv->shape;
    const size_t row = scratch_row(s);
    const float *in[TOGETHER];
    float *out[TOGETHER];
    for (int32_t g = 0; g < s->groups; g++) {
        for (int64_t r = 0; r < count; r++) {
            in[r] = window(s, c, places[r], g, scratch + (size_t)r * row);
            out[r] = c->y + places[r].signal * c->y_signal + places[r].position * c->y_position +
                     g * group_outputs(s);
        }
        const struct fr_product product = {&conv->maps[g],       in, out, count, 0,
                                           conv->maps[g].blocks, 0,  0};
        fr_active_kernels()->product(&product);
    }
}

static void run(const fr_conv *conv, const fr_conv_call *c, int64_t first, int64_t last,
                float *scratch) {
    const struct range range = all_of(&conv->shape, c);
    const int64_t rows = scratch_rows(&conv->shape);
    struct place places[TOGETHER];
    for (int64_t i = first; i < last; i += rows) {
        const int64_t count = last - i < rows ? last - i : rows;
        for (int64_t r = 0; r < count; r++) places[r] = place_of(&range, i + r);
        if (is_depthwise(&conv->shape))
            fr_run_taps(&conv->shape, &conv->taps, c, places, count, scratch);
        else run_block(conv, c, places, count, scratch);
    }
}

struct forward {
    const fr_conv *conv;
    const fr_conv_call *call;
    float *scratch; /* per thread */
};

static void forward_share(void *context, int share, int shares) {
    const struct forward *f = context;
    const fr_conv_shape *s = &f->conv->shape;
    const struct range range = all_of(s, f->call);
    const int64_t total = count_of(&range);
    run(f->conv, f->call, total * share / shares, total * (share + 1) / shares,
        f->scratch + (size_t)share * scratch_floats(s));
}

size_t fr_conv_workspace_size(const fr_conv *conv, int32_t threads) {
    return (size_t)at_most_threads(threads) * scratch_floats(&conv->shape) * sizeof(float);
}

void fr_conv_forward(const fr_conv *conv, const fr_conv_call *call, void *workspace,
                     int32_t threads) {
    struct forward f = {conv, call, workspace};
    fr_divide(work_of(&conv->shape, call) >= CONV_WORK, threads, forward_share, &f);
}

void fr_conv_forward_here(const fr_conv *conv, const fr_conv_call *call, void *workspace) {
    const struct range range = all_of(&conv->shape, call);
    run(conv, call, 0, count_of(&range), workspace);
}

void fr_conv_next_past(const fr_conv *conv, const fr_conv_call *call, float *next) {
    const fr_conv_shape *s = &conv->shape;
    const size_t bytes = (size_t)s->inputs * sizeof *next;
    for (int64_t signal = 0; signal < call->signals; signal++) {
        for (int64_t i = 0; i < s->before; i++, next += s->inputs) {
            const float *from = vector_at(s, call, signal, call->length - s->before + i);
            if (from) memcpy(next, from, bytes);
            else memset(next, 0, bytes);
        }
    }
}

/* ---- streams ----------------------------------------------------------------------------- */

/* Vectors [at, at + before) are the past; the next input comes behind them. Nothing has to move
 * until there is no room any more. */
struct state {
    _Alignas(FR_ALIGNMENT) int64_t at;
    _Alignas(FR_ALIGNMENT) float vectors[];
};

static int64_t slack(const fr_conv_shape *s) { return s->before < SLACK ? SLACK : s->before; }

size_t fr_conv_state_size(const fr_conv *conv) {
    const fr_conv_shape *s = &conv->shape;
    const size_t vectors = s->before ? (size_t)(s->before + slack(s)) : 0;
    const size_t bytes = sizeof(struct state) + vectors * (size_t)s->inputs * sizeof(float);
    return (bytes + FR_ALIGNMENT - 1) / FR_ALIGNMENT * FR_ALIGNMENT;
}

void fr_conv_state_set(const fr_conv *conv, void *state, const float *past) {
    struct state *to = state;
    const size_t bytes = (size_t)conv->shape.before * (size_t)conv->shape.inputs * sizeof *past;
    memset(state, 0, fr_conv_state_size(conv));
    if (past && bytes) memcpy(to->vectors, past, bytes);
}

void fr_conv_state_get(const fr_conv *conv, const void *state, float *past) {
    const struct state *from = state;
    const size_t width = (size_t)conv->shape.inputs;
    memcpy(past, from->vectors + (size_t)from->at * width,
           (size_t)conv->shape.before * width * sizeof *past);
}

/* The whole window of a signal that has got its next input, behind its past. */
static const float *take_in(const fr_conv_shape *s, struct state *state, const float *x) {
    const size_t width = (size_t)s->inputs;
    float *past = state->vectors + (size_t)state->at * width;
    if (s->before == 0) return x;
    memcpy(past + (size_t)s->before * width, x, width * sizeof *x);
    return past;
}

static void move_on(const fr_conv_shape *s, struct state *state) {
    const size_t width = (size_t)s->inputs;
    if (s->before == 0 || ++state->at < slack(s)) return;
    memmove(state->vectors, state->vectors + (size_t)state->at * width,
            (size_t)s->before * width * sizeof(float));
    state->at = 0;
}

static void step_block(const fr_conv *conv, int64_t rows, void *const *states,
                       const float *const *x, float *const *y, float *scratch) {
    const fr_conv_shape *s = &conv->shape;
    const float *past[TOGETHER], *in[TOGETHER];
    float *out[TOGETHER];
    const fr_conv_call one = {.signals = 1, .length = reach(s) + 1, .x_position = s->inputs};
    for (int64_t r = 0; r < rows; r++) past[r] = take_in(s, states[r], x[r]);
    if (is_depthwise(s)) fr_step_taps(s, &conv->taps, rows, past, y, scratch);
    for (int32_t g = 0; conv->maps && g < s->groups; g++) {
        for (int64_t r = 0; r < rows; r++) {
            fr_conv_call call = one;
            call.x = past[r];
            in[r] = window(s, &call, (struct place){0, s->before}, g,
                           scratch + (size_t)r * scratch_row(s));
            out[r] = y[r] + g * group_outputs(s);
        }
        const struct fr_product product = {&conv->maps[g],       in, out, rows, 0,
                                           conv->maps[g].blocks, 0,  0};
        fr_active_kernels()->product(&product);
    }
    for (int64_t r = 0; r < rows; r++) move_on(s, states[r]);
}

void fr_conv_step(const fr_conv *conv, int64_t rows, void *const *states, const float *const *x,
                  float *const *y, void *workspace) {
    const int64_t most = scratch_rows(&conv->shape);
    for (int64_t i = 0; i < rows; i += most)
        step_block(conv, rows - i < most ? rows - i : most, states + i, x + i, y + i, workspace);
}
