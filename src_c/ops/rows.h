/* Functions of rows of floats that need no packed weights: a row's result depends on that row
 * alone, so it has the same bits in every batch. Sums are of doubles. */
#ifndef FASTRNN_ROWS_H
#define FASTRNN_ROWS_H

#include <stdint.h>

/* y = (x - mean) / sqrt(variance + eps) * weight + bias over each of `rows` rows of `size`. */
typedef struct fr_norm {
    int64_t rows, size;
    const float *x;      /* (rows, size) */
    const float *weight; /* (size) */
    const float *bias;   /* (size) */
    float *y;            /* (rows, size), may be x */
    float *normal;       /* (rows, size): (x - mean) / deviation for the way back, or NULL */
    float *inverse;      /* (rows): 1 / deviation, or NULL */
    double eps;
} fr_norm;

void fr_layer_norm(const fr_norm *norm);

/* y (n, width) = the rows of table (limit, width) at indices (n). Returns the position of the first
 * index outside of 0 .. limit - 1, where it stops, or n. */
int64_t fr_take_rows(int64_t n, const int64_t *indices, int64_t limit, int64_t width,
                     const float *table, float *y);

/* y (n) = factor * x (n), or += if `add`: two roundings. */
void fr_mix(int64_t n, float factor, const float *x, int add, float *y);

#endif
