/* Elementwise operations beside the activations: per channel, and of two values. Same bits on every
 * instruction set but "base", whatever rows and threads. */
#ifndef FASTRNN_ELEMENTWISE_H
#define FASTRNN_ELEMENTWISE_H

#include "../kernels.h"

void fr_apply_channels(const fr_channels *channels, int32_t threads);
void fr_apply_channels_back(const fr_channels *channels, int32_t threads);

/* y (n) = a (n) + b (n) or a (n) b (n); y may be a or b. */
void fr_add(int64_t n, const float *a, const float *b, float *y, int32_t threads);
void fr_multiply(int64_t n, const float *a, const float *b, float *y, int32_t threads);

/* Inside a call that has set the floating-point mode: fr_active_kernels()->channels(c, 0, rows),
 * ->add(a, b, y, n) and ->multiply(a, b, y, n). */

#endif
