/* Convolution in one dimension over vectors of channels (channels last), with PyTorch's weights.
 *
 * Letters: C and O channels in and out, K the kernel, g groups; a signal is L positions of C
 * channels, its output L' positions of O. A window is what one output position sees: K vectors,
 * `dilation` positions apart, windows `stride` apart; `before` and `after` zeros stand around the
 * signal. Every output is the bias and one sum over (k, c), c fastest, in rising order (a product
 * with a matrix of K C / g inputs and O / g outputs); zeros around the signal are terms like
 * others. So an output has the same bits for any number of signals, threads and whatever layout,
 * split of the signal, and in a stream.
 *
 * Two uses, which differ in strides alone (fr_conv_call):
 *   over time    x (T, N, C): N signals of T positions, which lie N C floats apart;
 *   over a frame x (..., L, C): signals one after the other, each L positions of C floats.
 * A convolution with stride 1 and `before` = (K - 1) dilation, `after` = 0 (causal) continues: its
 * `past`, the last `before` inputs of every signal, takes the place of the zeros, and streams keep
 * it in a state.
 *
 * Memory is the caller's. A convolution is read-only once loaded.
 */
#ifndef FASTRNN_CONV_H
#define FASTRNN_CONV_H

#include "../include/fastrnn.h"

/* L' of a signal of L positions; 0 where no window fits. */
int64_t fr_conv_length(const fr_conv_shape *shape, int64_t length);
/* True if it may have a past: stride 1, causal, K > 1. */
int fr_conv_continues(const fr_conv_shape *shape);
const fr_conv_shape *fr_conv_shape_of(const fr_conv *conv);

/* ---- whole signals ----------------------------------------------------------------------- */

/* S signals of L positions. Strides are in floats; the channels of a vector lie together. */
typedef struct fr_conv_call {
    int64_t signals, length;      /* S, L */
    int64_t x_signal, x_position; /* from one signal or position of x and dx to the next */
    int64_t y_signal, y_position; /* likewise of y and dy */
    const float *x;
    const float *past; /* (S, before, C), oldest first, of a shape that continues; NULL: zeros */
    float *y;          /* forward */
    const float *dy;   /* backward */
    float *dx;         /* is written, not added to; NULL: not wanted */
    float *dpast;      /* (S, before, C) likewise, where a past was given */
    float *dweight;    /* (O, C / g, K), added to, positions falling, signals rising; or NULL */
    float *dbias;      /* (O) likewise */
} fr_conv_call;

/* Bytes of workspace for a call with up to so many threads. */
size_t fr_conv_workspace_size(const fr_conv *conv, int32_t threads);
void fr_conv_forward(const fr_conv *conv, const fr_conv_call *call, void *workspace,
                     int32_t threads);
/* The same inside a call that has set the floating-point mode, in this thread; a workspace of one
 * thread. */
void fr_conv_forward_here(const fr_conv *conv, const fr_conv_call *call, void *workspace);

/* next (S, before, C) = the past that continues the call's signals; not the call's own past. */
void fr_conv_next_past(const fr_conv *conv, const fr_conv_call *call, float *next);

/* ---- streams ----------------------------------------------------------------------------- */

/* A state is the past of one signal, in a block of fr_conv_state_size bytes (a multiple of
 * FR_ALIGNMENT) without pointers: it may be copied with memcpy and lie anywhere. */
size_t fr_conv_state_size(const fr_conv *conv);
/* past (before, C), oldest first; set: NULL for zeros. */
void fr_conv_state_set(const fr_conv *conv, void *state, const float *past);
void fr_conv_state_get(const fr_conv *conv, const void *state, float *past);

/* One step of `rows` signals that continue: x[row] (C) -> y[row] (O), and on with states[row].
 * Inside a call that has set the floating-point mode, in this thread; never allocates. A workspace
 * of one thread. */
void fr_conv_step(const fr_conv *conv, int64_t rows, void *const *states, const float *const *x,
                  float *const *y, void *workspace);

/* ---- training ---------------------------------------------------------------------------- */

/* Weights packed for the backward pass. */
typedef struct fr_conv_back fr_conv_back;

size_t fr_conv_back_size(const fr_conv_shape *shape);
fr_conv_back *fr_conv_back_create(const fr_conv_shape *shape, void *memory);
void fr_conv_back_load(fr_conv_back *back, const float *weight);

size_t fr_conv_back_workspace_size(const fr_conv_back *back, int32_t threads);
/* dx and dpast of a position add up its windows in rising order. */
void fr_conv_backward(const fr_conv_back *back, const fr_conv_call *call, void *workspace,
                      int32_t threads);

#endif
