/* Convolutions whose outputs have a channel of their own each: lanes are channels, and a vector of
 * the signal is read where it is. The sums are those of the other convolutions: the same chains. */
#include "windows.h"

void fr_lay_out_taps(const fr_conv_shape *s, struct fr_taps *taps, struct fr_arena *arena) {
    const size_t stride = ((size_t)s->inputs + FR_GROUP - 1) / FR_GROUP * FR_GROUP;
    *taps = (struct fr_taps){
        .weight = fr_take(arena, (size_t)s->kernel * stride, sizeof(float)),
        .bias = fr_take(arena, stride, sizeof(float)),
        .zeros = fr_take(arena, stride, sizeof(float)),
        .stride = stride,
    };
}

void fr_load_taps(const fr_conv_shape *s, const struct fr_taps *taps, const float *weight,
                  const float *bias) {
    for (size_t c = 0; c < (size_t)s->inputs; c++) {
        for (size_t k = 0; k < (size_t)s->kernel; k++)
            taps->weight[k * taps->stride + c] = *weight++;
        taps->bias[c] = bias ? bias[c] : 0.0f;
    }
}

static struct fr_depthwise call_of(const fr_conv_shape *s, const struct fr_taps *taps,
                                   int64_t rows) {
    return (struct fr_depthwise){
        .weight = taps->weight,
        .bias = taps->bias,
        .stride = taps->stride,
        .rows = rows,
        .taps = s->kernel,
        .channels = s->inputs,
    };
}

void fr_run_taps(const fr_conv_shape *s, const struct fr_taps *taps, const fr_conv_call *c,
                 const struct place *places, int64_t count, float *scratch) {
    struct fr_depthwise call = call_of(s, taps, count);
    const float **x = (const float **)(void *)scratch;
    float *y[TOGETHER];
    call.x = x, call.y = y;
    for (int64_t r = 0; r < count; r++) {
        const int64_t first = first_of(s, places[r].position);
        y[r] = c->y + places[r].signal * c->y_signal + places[r].position * c->y_position;
        for (int32_t k = 0; k < s->kernel; k++) {
            const float *at = vector_at(s, c, places[r].signal, first + (int64_t)k * s->dilation);
            *x++ = at ? at : taps->zeros;
        }
    }
    fr_active_kernels()->depthwise(&call);
}

void fr_step_taps(const fr_conv_shape *s, const struct fr_taps *taps, int64_t rows,
                  const float *const *past, float *const *y, float *scratch) {
    struct fr_depthwise call = call_of(s, taps, rows);
    const float **x = (const float **)(void *)scratch;
    call.x = x, call.y = y;
    for (int64_t r = 0; r < rows; r++)
        for (int32_t k = 0; k < s->kernel; k++)
            *x++ = past[r] + (int64_t)k * s->dilation * s->inputs;
    fr_active_kernels()->depthwise(&call);
}

void fr_add_tap_inputs(const fr_conv_shape *s, const struct fr_taps *taps, const fr_conv_call *c,
                       const struct place *places, int64_t count, int64_t p0, int64_t p1,
                       float *scratch) {
    struct fr_depthwise call = call_of(s, taps, count);
    float **dx = (float **)(void *)scratch;
    const float *dy[TOGETHER];
    call.dx = dx, call.dy = dy;
    for (int64_t r = 0; r < count; r++) {
        const int64_t first = first_of(s, places[r].position);
        dy[r] = c->dy + places[r].signal * c->y_signal + places[r].position * c->y_position;
        for (int32_t k = 0; k < s->kernel; k++) {
            const int64_t at = first + (int64_t)k * s->dilation;
            *dx++ = at >= p0 && at < p1 ? gradient_at(s, c, places[r].signal, at) : NULL;
        }
    }
    fr_active_kernels()->depthwise_back(&call);
}

/* Pointers to 16 floats each, from `first` on: where they are, or, of a ragged end, copied. */
static void take_columns(const float **to, const float *const *from, int32_t count, int32_t first,
                         int32_t outputs, float *copy) {
    for (int32_t r = 0; r < count; r++, copy += FR_GROUP) {
        to[r] = from[r] + first;
        if (outputs == FR_GROUP) continue;
        memset(copy, 0, FR_GROUP * sizeof *copy);
        memcpy(copy, to[r], (size_t)outputs * sizeof *copy);
        to[r] = copy;
    }
}

void fr_add_tap_weights(const fr_conv_shape *s, const struct fr_taps *taps, const fr_conv_call *c,
                        const struct place *places, int32_t count, int32_t begin, int32_t end,
                        float *dweight, float *memory) {
    const float *x[FR_PANEL_ROWS], *dy[FR_PANEL_ROWS], *a[FR_PANEL_ROWS], *b[FR_PANEL_ROWS];
    for (int32_t r = 0; r < count; r++)
        dy[r] = c->dy + places[r].signal * c->y_signal + places[r].position * c->y_position;
    for (int32_t k = -1; k < s->kernel; k++) { /* -1: the bias */
        if (!(k < 0 ? c->dbias : dweight)) continue;
        for (int32_t r = 0; k >= 0 && r < count; r++) {
            const int64_t at = first_of(s, places[r].position) + (int64_t)k * s->dilation;
            const float *from = vector_at(s, c, places[r].signal, at);
            x[r] = from ? from : taps->zeros;
        }
        for (int32_t i = begin; i < end; i++) {
            const int32_t first = i * FR_GROUP, left = s->inputs - first;
            const int32_t outputs = left < FR_GROUP ? left : FR_GROUP;
            take_columns(a, dy, count, first, outputs, memory);
            if (k >= 0)
                take_columns(b, x, count, first, outputs, memory + FR_PANEL_ROWS * FR_GROUP);
            float *out = k < 0 ? c->dbias : dweight + (size_t)k * taps->stride;
            const struct fr_columns columns = {a, k < 0 ? NULL : b, out + first, count, outputs};
            fr_active_kernels()->columns(&columns);
        }
    }
}
