/* The linear map for callers that have entered their floating-point mode. */
#ifndef FASTRNN_LINEAR_H
#define FASTRNN_LINEAR_H

#include "../kernels.h"

/* y[r] = bias + W x[r] for rows [first, last) and the blocks [begin, end); strides are floats. */
void fr_linear_rows(const struct fr_matrix *matrix, int64_t first, int64_t last, const float *x,
                    int64_t x_stride, float *y, int64_t y_stride, int32_t begin, int32_t end);

#endif
