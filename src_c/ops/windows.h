/* Windows of a convolution: where they lie, how they are gathered, and its packed weights. Inside
 * of conv.c and conv_back.c. */
#ifndef FASTRNN_WINDOWS_H
#define FASTRNN_WINDOWS_H

#include "conv.h"
#include "../matrix/matrix.h"

#include <string.h>

enum {
    TOGETHER = 96,      /* rows per call of the kernel: pointers that the stack should hold */
    GATHERED = 1 << 15, /* floats of gathered windows that stay in L2 beside the weights */
    CONV_WORK = 200000, /* multiply-adds below which a second thread does not pay */
};

/* conv.c: the matrices of all groups, and PyTorch's weight (O, C / g, K) into them, from windows to
 * outputs or back. */
struct fr_matrix *fr_lay_out_conv(const fr_conv_shape *s, int32_t inputs, int32_t outputs,
                                  struct fr_arena *arena);
void fr_pack_conv(const fr_conv_shape *s, const struct fr_matrix *maps, int backwards,
                  const float *weight);

/* Channels of a group, of inputs and outputs; floats of a group's window. */
static inline int32_t group_inputs(const fr_conv_shape *s) { return s->inputs / s->groups; }
static inline int32_t group_outputs(const fr_conv_shape *s) { return s->outputs / s->groups; }
static inline int32_t window_floats(const fr_conv_shape *s) { return s->kernel * group_inputs(s); }
/* Positions from the first to the last vector of a window. */
static inline int64_t reach(const fr_conv_shape *s) {
    return (int64_t)(s->kernel - 1) * s->dilation;
}

/* A channel of its own for every output: no products with matrices, in depthwise.c. */
static inline int is_depthwise(const fr_conv_shape *s) {
    return s->groups > 1 && s->inputs == s->groups && s->outputs == s->groups;
}

/* Its weights: lanes are channels, so that none is padded but those of the last vector. */
struct fr_taps {
    float *weight; /* (K, stride) */
    float *bias;   /* (stride) */
    float *zeros;  /* (stride): a vector around the signal */
    size_t stride; /* C in whole vectors */
};

void fr_lay_out_taps(const fr_conv_shape *s, struct fr_taps *taps, struct fr_arena *arena);
void fr_load_taps(const fr_conv_shape *s, const struct fr_taps *taps, const float *weight,
                  const float *bias);

/* One window: of which signal, and its output's position. */
struct place {
    int64_t signal, position;
};

/* A vector of the signal, its past or the zeros around, which are NULL. */
static inline const float *vector_at(const fr_conv_shape *s, const fr_conv_call *c, int64_t signal,
                                     int64_t at) {
    if (at >= 0) return at < c->length ? c->x + signal * c->x_signal + at * c->x_position : NULL;
    return c->past ? c->past + (signal * s->before + s->before + at) * s->inputs : NULL;
}

/* The gradient of a vector of the signal or its past. */
static inline float *gradient_at(const fr_conv_shape *s, const fr_conv_call *c, int64_t signal,
                                 int64_t at) {
    if (at >= 0) return c->dx + signal * c->x_signal + at * c->x_position;
    return c->dpast + (signal * s->before + s->before + at) * s->inputs;
}

/* True if the vectors of a window lie side by side where they are. */
static inline int is_contiguous(const fr_conv_shape *s, const fr_conv_call *c) {
    return s->groups == 1 && (s->kernel == 1 || (s->dilation == 1 && c->x_position == s->inputs));
}

static inline int64_t first_of(const fr_conv_shape *s, int64_t position) {
    return position * s->stride - s->before;
}

/* The window of a group, where it is or gathered at `to`. */
static inline const float *window(const fr_conv_shape *s, const fr_conv_call *c, struct place place,
                                  int32_t group, float *to) {
    const int64_t first = first_of(s, place.position);
    const size_t width = (size_t)group_inputs(s);
    if (is_contiguous(s, c) && first >= 0 && first + reach(s) < c->length)
        return vector_at(s, c, place.signal, first);
    for (int32_t k = 0; k < s->kernel; k++, to += width) {
        const float *from = vector_at(s, c, place.signal, first + (int64_t)k * s->dilation);
        if (from) memcpy(to, from + (size_t)group * width, width * sizeof *to);
        else memset(to, 0, width * sizeof *to);
    }
    return to - window_floats(s);
}

/* Rows of scratch hold a window, or where its vectors are; they are kept off multiples of 1 KiB, as
 * those of gates are. */
static inline size_t scratch_row(const fr_conv_shape *s) {
    const size_t each = is_depthwise(s) ? sizeof(float *) : sizeof(float);
    const size_t needed = (size_t)window_floats(s) * each / sizeof(float);
    const size_t floats = (needed + FR_GROUP - 1) / FR_GROUP * FR_GROUP;
    return floats % 256 == 0 ? floats + FR_GROUP : floats;
}

static inline int64_t scratch_rows(const fr_conv_shape *s) {
    const int64_t rows = GATHERED / (int64_t)scratch_row(s);
    return rows < FR_TILE_ROWS ? FR_TILE_ROWS : rows < TOGETHER ? rows : TOGETHER;
}

static inline size_t scratch_floats(const fr_conv_shape *s) {
    return scratch_row(s) * (size_t)scratch_rows(s);
}

static inline int32_t at_most_threads(int32_t threads) {
    return threads < 1 ? 1 : threads < FR_MAX_THREADS ? threads : FR_MAX_THREADS;
}

/* Signals [s0, s1) and positions [p0, p1), numbered in the order of memory. */
struct range {
    int64_t s0, s1, p0, p1;
    int by_position; /* the signals of one position lie together */
};

static inline int64_t count_of(const struct range *r) { return (r->s1 - r->s0) * (r->p1 - r->p0); }

static inline struct place place_of(const struct range *r, int64_t i) {
    const int64_t signals = r->s1 - r->s0, positions = r->p1 - r->p0;
    return r->by_position ? (struct place){r->s0 + i % signals, r->p0 + i / signals}
                          : (struct place){r->s0 + i / positions, r->p0 + i % positions};
}

static inline struct range all_of(const fr_conv_shape *s, const fr_conv_call *c) {
    return (struct range){0, c->signals, 0, fr_conv_length(s, c->length),
                          c->x_position > c->x_signal};
}

/* Windows of a depthwise convolution, at most scratch_rows of them, in some scratch. */
void fr_run_taps(const fr_conv_shape *s, const struct fr_taps *taps, const fr_conv_call *c,
                 const struct place *places, int64_t count, float *scratch);
/* One step of signals: past[row] holds the vectors of the window. */
void fr_step_taps(const fr_conv_shape *s, const struct fr_taps *taps, int64_t rows,
                  const float *const *past, float *const *y, float *scratch);
/* Adds the gradients of windows to their vectors within the positions [p0, p1). */
void fr_add_tap_inputs(const fr_conv_shape *s, const struct fr_taps *taps, const fr_conv_call *c,
                       const struct place *places, int64_t count, int64_t p0, int64_t p1,
                       float *scratch);
/* Adds up to FR_PANEL_ROWS windows to dweight (K, stride) and dbias for the channels [16 begin, 16
 * end); memory for two panels' rows of 16. */
void fr_add_tap_weights(const fr_conv_shape *s, const struct fr_taps *taps, const fr_conv_call *c,
                        const struct place *places, int32_t count, int32_t begin, int32_t end,
                        float *dweight, float *memory);

static inline double work_of(const fr_conv_shape *s, const fr_conv_call *c) {
    return (double)c->signals * (double)fr_conv_length(s, c->length) * window_floats(s) *
           s->outputs;
}

#endif
