/* Activations: functions of one input, of a pair of inputs or of a row of inputs, by the table
 * cells/activations.def, forward and backward. One kernel text for all instruction sets: the same
 * bits everywhere but on "base", whatever rows, threads and neighbours.
 *
 * Infinite inputs have the limit of the function as result; rows of softmax and log_softmax whose
 * largest input is infinite are NaN (as in PyTorch), an input of -inf in another row has weight 0.
 */
#ifndef FASTRNN_ACTIVATION_H
#define FASTRNN_ACTIVATION_H

#include "../include/fastrnn.h"
#include "../kernels.h"

enum fr_over { FR_OVER_EACH, FR_OVER_PAIR, FR_OVER_ROW };
enum fr_reads { FR_READS_X, FR_READS_Y };

/* One line of the table. */
struct fr_activation_info {
    const char *name;
    int32_t over;             /* enum fr_over */
    int32_t reads;            /* enum fr_reads: what the backward pass reads beside dy */
    const char *parameter[2]; /* names of a and b, "" where there is none */
    float usual[2];           /* their usual values */
};
extern const struct fr_activation_info fr_activations[FR_ACTIVATIONS];

/* Inputs of a row: C, or 2 C. */
static inline int64_t fr_activation_inputs(const fr_activation *a) {
    return fr_activations[a->function].over == FR_OVER_PAIR ? 2 * a->size : a->size;
}
/* Units that a kernel takes a range of: elements where each is on its own, else rows. */
static inline int64_t fr_activation_units(const fr_activation *a) {
    return fr_activations[a->function].over == FR_OVER_EACH ? a->rows * a->size : a->rows;
}

/* y from x; dx from dy and from x or y. In calls of their own, with at most `threads` threads. */
void fr_activate(const fr_activation *activation, int32_t threads);
void fr_activate_back(const fr_activation *activation, int32_t threads);

/* The same inside a call that has set the floating-point mode, in this thread. */
static inline void fr_activate_here(const fr_activation *a) {
    fr_active_kernels()->activate(a, 0, fr_activation_units(a));
}

#endif
