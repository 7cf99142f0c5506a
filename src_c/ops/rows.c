#include "rows.h"

#include <math.h>
#include <string.h>

/* Numbers that are summed from 8 interleaved sums, then in halves, and how many of them one sum
 * adds up before the next begins: NumPy's order, so that the two agree in every bit. */
enum { BLOCK = 128, STRETCH = 8192 };

/* n <= BLOCK numbers, or their squares. */
static double sum_block(int64_t n, const float *x, int squared) {
    double r[8] = {0}, sum;
    if (n < 8) {
        sum = -0.0;
        for (int64_t i = 0; i < n; i++) sum += squared ? x[i] * x[i] : x[i];
        return sum;
    }
    for (int j = 0; j < 8; j++) r[j] = squared ? x[j] * x[j] : x[j];
    int64_t i = 8;
    for (; i < n - n % 8; i += 8)
        for (int j = 0; j < 8; j++) r[j] += squared ? x[i + j] * x[i + j] : x[i + j];
    sum = ((r[0] + r[1]) + (r[2] + r[3])) + ((r[4] + r[5]) + (r[6] + r[7]));
    for (; i < n; i++) sum += squared ? x[i] * x[i] : x[i];
    return sum;
}

static double sum_halves(int64_t n, const float *x, int squared) {
    if (n <= BLOCK) return squared ? sum_block(n, x, 1) : sum_block(n, x, 0);
    const int64_t half = n / 2 - n / 2 % 8;
    return sum_halves(half, x, squared) + sum_halves(n - half, x + half, squared);
}

static double mean_of(int64_t n, const float *x, int squared) {
    double sum = 0;
    for (int64_t i = 0; i < n; i += STRETCH)
        sum += sum_halves(n - i < STRETCH ? n - i : STRETCH, x + i, squared);
    return sum / (double)n;
}

void fr_layer_norm(const fr_norm *norm) {
    const int64_t size = norm->size;
    for (int64_t row = 0; row < norm->rows; row++) {
        const float *x = norm->x + row * size;
        float *y = norm->y + row * size;
        const double mean = mean_of(size, x, 0);
        /* The subtraction is exact where it matters: mean and x are close to each other there. */
        for (int64_t i = 0; i < size; i++) y[i] = (float)(x[i] - mean);
        const float inverse = (float)(1 / sqrt(mean_of(size, y, 1) + norm->eps));
        if (norm->inverse) norm->inverse[row] = inverse;
        for (int64_t i = 0; i < size; i++) y[i] *= inverse;
        if (norm->normal) memcpy(norm->normal + row * size, y, (size_t)size * sizeof *y);
        for (int64_t i = 0; i < size; i++) y[i] = y[i] * norm->weight[i] + norm->bias[i];
    }
}

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
