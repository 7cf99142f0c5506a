/* Passes over flat vectors: each thread has a range of its own, whole cache lines of it. */
#include "../include/fastrnn_train.h"
#include "../kernels.h"
#include "../time/team.h"

enum {
    LEAST_WORK = 262144, /* values below which a second thread does not pay: about 100 us */
    GRAIN = 64,          /* ranges are multiples of so many values */
};

/* Where a share begins, and that of the one before it ends. */
static size_t border(size_t n, size_t grain, int share, int shares) {
    const size_t grains = (n + grain - 1) / grain;
    const size_t start = grains * (size_t)share / (size_t)shares * grain;
    return start < n ? start : n;
}

static void update_share(void *context, int share, int shares) {
    const fr_update *u = context;
    fr_active_kernels()->update(u, border(u->n, GRAIN, share, shares),
                                border(u->n, GRAIN, share + 1, shares));
}

void fr_update_run(const fr_update *update, int32_t threads) {
    fr_update call = *update;
    fr_divide(call.n >= LEAST_WORK, threads, update_share, &call);
}

struct vector {
    size_t n;
    const float *x;
    float *y; /* x to be written */
    double *partials;
    float number;
    void (*pass)(float *x, size_t n, float number);
};

static void norm_share(void *context, int share, int shares) {
    const struct vector *v = context;
    const size_t end = border(v->n, FR_NORM_BLOCK, share + 1, shares);
    for (size_t i = border(v->n, FR_NORM_BLOCK, share, shares); i < end; i += FR_NORM_BLOCK) {
        const size_t count = end - i < FR_NORM_BLOCK ? end - i : FR_NORM_BLOCK;
        v->partials[i / FR_NORM_BLOCK] = fr_active_kernels()->squares(v->x + i, count);
    }
}

double fr_squared_norm(size_t n, const float *x, double *partials, int32_t threads) {
    struct vector call = {.n = n, .x = x, .partials = partials};
    fr_divide(n >= LEAST_WORK, threads, norm_share, &call);
    double sum = 0.0;
    for (size_t i = 0; i < n; i += FR_NORM_BLOCK) sum += partials[i / FR_NORM_BLOCK];
    return sum;
}

static void pass_share(void *context, int share, int shares) {
    const struct vector *v = context;
    const size_t start = border(v->n, GRAIN, share, shares);
    v->pass(v->y + start, border(v->n, GRAIN, share + 1, shares) - start, v->number);
}

void fr_scale(size_t n, float *x, float factor, int32_t threads) {
    struct vector call = {.n = n, .y = x, .number = factor, .pass = fr_active_kernels()->scale};
    fr_divide(n >= LEAST_WORK, threads, pass_share, &call);
}

void fr_clip(size_t n, float *x, float bound, int32_t threads) {
    struct vector call = {.n = n, .y = x, .number = bound, .pass = fr_active_kernels()->clip};
    fr_divide(n >= LEAST_WORK, threads, pass_share, &call);
}

static void add_rows_share(void *context, int share, int shares) {
    const fr_scatter *s = context;
    const size_t columns = (size_t)s->columns, line = 16;
    fr_active_kernels()->add_rows(s, (int64_t)border(columns, line, share, shares),
                                  (int64_t)border(columns, line, share + 1, shares));
}

void fr_add_rows(const fr_scatter *scatter, int32_t threads) {
    fr_scatter call = *scatter;
    const int64_t work = call.steps * call.rows * call.columns;
    fr_divide(work >= LEAST_WORK, threads, add_rows_share, &call);
}
