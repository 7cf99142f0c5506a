/* Layer normalisation. A row's result depends on that row alone, so it has the same bits in every
 * batch, with any number of threads and on every instruction set. */
#ifndef FASTRNN_NORM_H
#define FASTRNN_NORM_H

#include "../kernels.h"

void fr_layer_norm(const fr_norm *norm, int32_t threads);
void fr_layer_norm_back(const fr_norm *norm, int32_t threads);

/* Inside a call that has set the floating-point mode: fr_active_kernels()->layer_norm. */

#endif
