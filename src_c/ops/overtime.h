/* Operations over the time of whole sequences: pooling, and the steps in reverse. A row's result
 * depends on its own steps alone, so it has the same bits in every batch and layout. */
#ifndef FASTRNN_OVERTIME_H
#define FASTRNN_OVERTIME_H

#include "../include/fastrnn.h"

/* T steps of N rows of C floats. Element t * step_stride + n * row_stride is step t of row n; of
 * packed rows, which are sorted by falling length, it is starts[t] + n. */
typedef struct fr_over_time {
    int64_t steps, rows, width; /* T, N, C */
    int64_t step_stride, row_stride;
    const int64_t *starts;  /* (T), of packed rows; else NULL */
    const int64_t *lengths; /* (N), 0 to T; NULL: all T */
    const float *x;         /* elements (C); of the way back the gradient of y */
    float *y;               /* elements (C) of a flip, (N, C) of a pool; of the way back of x */
    int64_t *places;        /* (N, C): the steps of FR_MAX, for the way back; NULL: not wanted */
} fr_over_time;

/* y (N, C): FR_LAST, FR_MEAN or FR_MAX of a row's own steps, 0 for a row without any. A mean is one
 * chain of sums over rising steps, each step times 1 / length. NaN is a maximum. */
void fr_pool(const fr_over_time *call, int32_t kind, int32_t threads);
/* x (N, C) -> y, elements, all of which are written. */
void fr_pool_back(const fr_over_time *call, int32_t kind, int32_t threads);
/* A row's own steps in reverse, and what follows them as it is; its own way back. */
void fr_flip(const fr_over_time *call, int32_t threads);

#endif
