#include "rows.h"

#include <string.h>

int64_t fr_take_rows(int64_t n, const int64_t *indices, int64_t limit, int64_t width,
                     const float *table, float *y) {
    for (int64_t i = 0; i < n; i++) {
        const int64_t index =
            ((const volatile int64_t *)indices)[i]; /* read once: its owner may write to it */
        if (index < 0 || index >= limit) return i;
        memcpy(y + i * width, table + index * width, (size_t)width * sizeof *y);
    }
    return n;
}

void fr_mix(int64_t n, float factor, const float *x, int add, float *y) {
    if (!add)
        for (int64_t i = 0; i < n; i++) y[i] = factor * x[i];
    else
        for (int64_t i = 0; i < n; i++) y[i] += factor * x[i];
}
