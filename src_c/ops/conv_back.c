#include "windows.h"
#include "outer.h"
#include "../time/team.h"

struct fr_conv_back {
    fr_conv_shape shape;
    struct fr_matrix *maps; /* (g): from gradients of outputs to those of windows; NULL: */
    struct fr_taps taps;    /* of a depthwise one */
};

static fr_conv_back *lay_out(const fr_conv_shape *s, struct fr_arena *arena) {
    fr_conv_back *back = fr_take(arena, 1, sizeof *back), out = {*s, NULL, {0}};
    if (is_depthwise(s)) fr_lay_out_taps(s, &out.taps, arena);
    else out.maps = fr_lay_out_conv(s, group_outputs(s), window_floats(s), arena);
    if (back) *back = out;
    return back;
}

size_t fr_conv_back_size(const fr_conv_shape *shape) {
    struct fr_arena arena = {NULL, 0};
    if (fr_conv_error(shape)) return 0;
    lay_out(shape, &arena);
    return fr_used(&arena);
}

fr_conv_back *fr_conv_back_create(const fr_conv_shape *shape, void *memory) {
    struct fr_arena arena = {memory, 0};
    const size_t size = fr_conv_back_size(shape);
    if (size == 0) return NULL;
    memset(memory, 0, size);
    return lay_out(shape, &arena);
}

void fr_conv_back_load(fr_conv_back *back, const float *weight) {
    if (is_depthwise(&back->shape)) fr_load_taps(&back->shape, &back->taps, weight, NULL);
    else fr_pack_conv(&back->shape, back->maps, 1, weight);
}

/* ---- backward: inputs -------------------------------------------------------------------- */

struct backward {
    const fr_conv_back *back;
    const fr_conv_call *call;
    float *dweight; /* (O, K, C / g): in the order of windows */
    float *memory;  /* per thread */
    size_t floats;  /* of a thread */
};

/* to (n) += from (n) */
static void add_row(float *restrict to, const float *restrict from, int64_t n) {
    for (int64_t i = 0; i < n; i++) to[i] += from[i];
}

/* Adds the gradient of a group's window to those of its vectors that lie in the positions
 * [p0, p1). */
static void add_window(const fr_conv_shape *s, const fr_conv_call *c, struct place place,
                       int32_t group, const float *dwindow, int64_t p0, int64_t p1) {
    const int64_t first = first_of(s, place.position), last = first + reach(s);
    const int32_t width = group_inputs(s);
    if (is_contiguous(s, c) && first >= p0 && first >= 0 && last < p1) {
        add_row(gradient_at(s, c, place.signal, first), dwindow, window_floats(s));
        return;
    }
    for (int32_t k = 0; k < s->kernel; k++, dwindow += width) {
        const int64_t at = first + (int64_t)k * s->dilation;
        if (at >= p0 && at < p1)
            add_row(gradient_at(s, c, place.signal, at) + (int64_t)group * width, dwindow, width);
    }
}

/* Gradients of the inputs at signals [s0, s1) and positions [p0, p1). */
static void add_inputs(const fr_conv_back *back, const fr_conv_call *c, struct range to,
                       float *scratch) {
    const fr_conv_shape *s = &back->shape;
    const int64_t rows = scratch_rows(s), seen = to.p0 + s->before - reach(s);
    const int64_t all = fr_conv_length(s, c->length), end = (to.p1 - 1 + s->before) / s->stride + 1;
    struct range from = to; /* the windows that see these positions */
    from.p0 = seen > 0 ? (seen + s->stride - 1) / s->stride : 0;
    from.p1 = end < all ? end : all;
    if (from.p1 < from.p0) from.p1 = from.p0;
    for (int64_t i = 0; i < count_of(&to); i++) {
        const struct place place = place_of(&to, i);
        memset(gradient_at(s, c, place.signal, place.position), 0,
               (size_t)s->inputs * sizeof(float));
    }
    struct place places[TOGETHER];
    const float *in[TOGETHER];
    float *out[TOGETHER];
    for (int64_t i = 0, total = count_of(&from); i < total; i += rows) {
        const int64_t count = total - i < rows ? total - i : rows;
        for (int64_t r = 0; r < count; r++) places[r] = place_of(&from, i + r);
        if (is_depthwise(s))
            fr_add_tap_inputs(s, &back->taps, c, places, count, to.p0, to.p1, scratch);
        for (int32_t g = 0; back->maps && g < s->groups; g++) {
            for (int64_t r = 0; r < count; r++) {
                in[r] = c->dy + places[r].signal * c->y_signal +
                        places[r].position * c->y_position + g * group_outputs(s);
                out[r] = scratch + (size_t)r * scratch_row(s);
            }
            const struct fr_product product = {&back->maps[g],       in, out, count, 0,
                                               back->maps[g].blocks, 0,  0};
            fr_active_kernels()->product(&product);
            for (int64_t r = 0; r < count; r++)
                add_window(s, c, places[r], g, out[r], to.p0, to.p1);
        }
    }
}

/* Shares are of signals, or, where those are few, of positions. */
static void inputs_share(void *context, int share, int shares) {
    const struct backward *b = context;
    const fr_conv_call *c = b->call;
    struct range to = all_of(&b->back->shape, c);
    to.p0 = c->dpast ? -(int64_t)b->back->shape.before : 0;
    to.p1 = c->length;
    const int64_t signals = c->signals, first = to.p0, positions = to.p1 - to.p0;
    if (signals >= shares) {
        to.s0 = signals * share / shares, to.s1 = signals * (share + 1) / shares;
    } else {
        to.p0 = first + positions * share / shares;
        to.p1 = first + positions * (share + 1) / shares;
    }
    if (count_of(&to) > 0) add_inputs(b->back, c, to, b->memory + (size_t)share * b->floats);
}

/* ---- backward: weights ------------------------------------------------------------------- */

/* Rows of windows side by side, each by way of `row` if it has to be gathered. */
static void fill_windows(const fr_conv_shape *s, const fr_conv_call *c, const struct place *places,
                         int32_t count, int32_t group, float *panel, float *row) {
    for (int32_t k = 0; k < count; k++) {
        const float *from = window(s, c, places[k], group, row);
        fr_fill_panel(panel + k * FR_STRIP, &from, 1, window_floats(s));
    }
}

/* Share of a panel of rows in 16 outputs: the blocks [begin, end) of 16, group after group. */
static void add_panel(const struct backward *b, const struct place *places, int32_t count,
                      int32_t begin, int32_t end, float *memory) {
    const fr_conv_shape *s = &b->back->shape;
    const fr_conv_call *c = b->call;
    const int32_t outputs = group_outputs(s), blocks = (outputs + FR_GROUP - 1) / FR_GROUP;
    const int32_t width = window_floats(s);
    float *panel = memory, *ragged = panel + fr_panel_floats(width);
    float *row = ragged + FR_PANEL_ROWS * FR_GROUP;
    const float *dy[FR_PANEL_ROWS];
    for (int32_t i = begin, filled = -1; i < end; i++) {
        const int32_t g = i / blocks, first = g * outputs;
        if (g != filled) {
            fill_windows(s, c, places, count, g, panel, row);
            for (int32_t k = 0; k < count; k++)
                dy[k] = c->dy + places[k].signal * c->y_signal +
                        places[k].position * c->y_position + first;
            filled = g;
        }
        const struct fr_outer_rows rows = {
            .rows = count,
            .width = width,
            .panel = panel,
            .dy = dy,
            .outputs = outputs,
            .dweight = b->dweight ? b->dweight + (size_t)first * (size_t)width : NULL,
            .dbias = c->dbias ? c->dbias + first : NULL,
            .ragged = ragged};
        fr_add_outer_rows(&rows, i % blocks * FR_GROUP);
    }
}

/* Blocks of 16 outputs, of each group by itself or of all channels of a depthwise one. */
static int64_t blocks_of(const fr_conv_shape *s) {
    const int32_t together = is_depthwise(s) ? s->groups : 1;
    return s->groups / together *
           (((int64_t)group_outputs(s) * together + FR_GROUP - 1) / FR_GROUP);
}

static void weights_share(void *context, int share, int shares) {
    const struct backward *b = context;
    const fr_conv_shape *s = &b->back->shape;
    struct range range = all_of(s, b->call);
    range.by_position = 1;
    const int64_t total = count_of(&range);
    const int64_t blocks = blocks_of(s);
    struct place places[FR_PANEL_ROWS];
    for (int64_t done = 0; done < total; done += FR_PANEL_ROWS) {
        const int32_t count =
            total - done < FR_PANEL_ROWS ? (int32_t)(total - done) : FR_PANEL_ROWS;
        for (int32_t k = 0; k < count; k++) {
            places[k] = place_of(&range, done + k);
            places[k].position = range.p1 - 1 - places[k].position; /* the last first */
        }
        const int32_t begin = (int32_t)(blocks * share / shares);
        const int32_t end = (int32_t)(blocks * (share + 1) / shares);
        float *memory = b->memory + (size_t)share * b->floats;
        if (is_depthwise(s))
            fr_add_tap_weights(s, &b->back->taps, b->call, places, count, begin, end, b->dweight,
                               memory);
        else add_panel(b, places, count, begin, end, memory);
    }
}

/* Between PyTorch's order of weights, k fastest, and that of windows. */
static void permute(const fr_conv_shape *s, float *by_window, float *by_kernel, int there) {
    const size_t inputs = (size_t)group_inputs(s), kernel = (size_t)s->kernel;
    for (int32_t o = 0; o < s->outputs; o++) {
        for (size_t c = 0; c < inputs; c++) {
            for (size_t k = 0; k < kernel; k++, by_kernel++) {
                float *at = by_window + k * inputs + c;
                if (there) *at = *by_kernel;
                else *by_kernel = *at;
            }
        }
        by_window += window_floats(s);
    }
}

/* Between PyTorch's (C, 1, K) and (K, stride) of a depthwise one. */
static void turn(const fr_conv_back *back, float *by_tap, float *by_kernel, int there) {
    const size_t kernel = (size_t)back->shape.kernel;
    for (size_t c = 0; c < (size_t)back->shape.inputs; c++) {
        for (size_t k = 0; k < kernel; k++) {
            float *at = by_tap + k * back->taps.stride + c;
            if (there) *at = by_kernel[c * kernel + k];
            else by_kernel[c * kernel + k] = *at;
        }
    }
}

static int is_permuted(const fr_conv_shape *s) {
    return s->kernel > 1 && (group_inputs(s) > 1 || is_depthwise(s));
}

static void reorder(const fr_conv_back *back, float *copy, float *dweight, int there) {
    if (is_depthwise(&back->shape)) turn(back, copy, dweight, there);
    else permute(&back->shape, copy, dweight, there);
}

static size_t weight_floats(const fr_conv_back *back) {
    const fr_conv_shape *s = &back->shape;
    if (!is_permuted(s)) return 0;
    return is_depthwise(s) ? (size_t)s->kernel * back->taps.stride
                           : scratch_row(s) * (size_t)s->outputs;
}

static size_t thread_floats(const fr_conv_shape *s) {
    const size_t ragged = FR_PANEL_ROWS * FR_GROUP;
    const size_t weights =
        is_depthwise(s) ? 2 * ragged : fr_panel_floats(window_floats(s)) + ragged + scratch_row(s);
    return weights > scratch_floats(s) ? weights : scratch_floats(s);
}

size_t fr_conv_back_workspace_size(const fr_conv_back *back, int32_t threads) {
    const fr_conv_shape *s = &back->shape;
    return (weight_floats(back) + (size_t)at_most_threads(threads) * thread_floats(s)) *
           sizeof(float);
}

void fr_conv_backward(const fr_conv_back *back, const fr_conv_call *call, void *workspace,
                      int32_t threads) {
    const fr_conv_shape *s = &back->shape;
    const int pays = work_of(s, call) >= CONV_WORK;
    float *copy = workspace;
    struct backward b = {back, call, call->dweight, copy + weight_floats(back), thread_floats(s)};
    if (call->dweight && is_permuted(s)) {
        reorder(back, copy, call->dweight, 1);
        b.dweight = copy;
    }
    if (call->dweight || call->dbias) fr_divide(pays, threads, weights_share, &b);
    if (b.dweight == copy && call->dweight) reorder(back, copy, call->dweight, 0);
    if (call->dx) fr_divide(pays, threads, inputs_share, &b);
}
