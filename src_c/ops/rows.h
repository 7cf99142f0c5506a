/* Functions of rows of floats that need no packed weights and no sums. */
#ifndef FASTRNN_ROWS_H
#define FASTRNN_ROWS_H

#include <stdint.h>

/* y (n, width) = the rows of table (limit, width) at indices (n). Returns the position of the first
 * index outside of 0 .. limit - 1, where it stops, or n. */
int64_t fr_take_rows(int64_t n, const int64_t *indices, int64_t limit, int64_t width,
                     const float *table, float *y);

/* y (n) = factor * x (n), or += if `add`: two roundings. */
void fr_mix(int64_t n, float factor, const float *x, int add, float *y);

#endif
