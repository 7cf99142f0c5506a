/* Passes over flat vectors: each thread has a range of its own, whole cache lines of it. */
#include "include/fastrnn.h"
#include "kernels.h"
#include "team.h"

enum {
    LEAST_WORK = 262144, /* values below which a second thread does not pay: about 100 us */
    GRAIN = 64,         /* ranges are multiples of so many values */
};

/* Where the part of a thread begins, and that of the one before it ends. */
static size_t border(size_t n, size_t grain, int thread, int threads) {
    const size_t grains = (n + grain - 1) / grain;
    const size_t start = grains * (size_t)thread / (size_t)threads * grain;
    return start < n ? start : n;
}

static void update_thread(void *context, int thread, int threads) {
    const fr_update *u = context;
    fr_active_kernels()->update(u, border(u->n, GRAIN, thread, threads),
                                border(u->n, GRAIN, thread + 1, threads));
}

void fr_update_run(const fr_update *update, int32_t threads) {
    fr_update call = *update;
    fr_team_run_if(call.n >= LEAST_WORK, threads, update_thread, &call);
}

struct vector {
    size_t n;
    const float *x;
    float *y; /* x to be written */
    double *partials;
    float number;
    void (*pass)(float *x, size_t n, float number);
};

static void norm_thread(void *context, int thread, int threads) {
    const struct vector *v = context;
    const size_t end = border(v->n, FR_NORM_BLOCK, thread + 1, threads);
    for (size_t i = border(v->n, FR_NORM_BLOCK, thread, threads); i < end; i += FR_NORM_BLOCK) {
        const size_t count = end - i < FR_NORM_BLOCK ? end - i : FR_NORM_BLOCK;
        v->partials[i / FR_NORM_BLOCK] = fr_active_kernels()->squares(v->x + i, count);
    }
}

double fr_squared_norm(size_t n, const float *x, double *partials, int32_t threads) {
    struct vector call = {.n = n, .x = x, .partials = partials};
    fr_team_run_if(n >= LEAST_WORK, threads, norm_thread, &call);
    double sum = 0.0;
    for (size_t i = 0; i < n; i += FR_NORM_BLOCK) sum += partials[i / FR_NORM_BLOCK];
    return sum;
}

static void pass_thread(void *context, int thread, int threads) {
    const struct vector *v = context;
    const size_t start = border(v->n, GRAIN, thread, threads);
    v->pass(v->y + start, border(v->n, GRAIN, thread + 1, threads) - start, v->number);
}

void fr_scale(size_t n, float *x, float factor, int32_t threads) {
    struct vector call = {.n = n, .y = x, .number = factor, .pass = fr_active_kernels()->scale};
    fr_team_run_if(n >= LEAST_WORK, threads, pass_thread, &call);
}

void fr_clip(size_t n, float *x, float bound, int32_t threads) {
    struct vector call = {.n = n, .y = x, .number = bound, .pass = fr_active_kernels()->clip};
    fr_team_run_if(n >= LEAST_WORK, threads, pass_thread, &call);
}

static void add_rows_thread(void *context, int thread, int threads) {
    const fr_scatter *s = context;
    const size_t columns = (size_t)s->columns, line = 16;
    fr_active_kernels()->add_rows(s, (int64_t)border(columns, line, thread, threads),
                                  (int64_t)border(columns, line, thread + 1, threads));
}

void fr_add_rows(const fr_scatter *scatter, int32_t threads) {
    fr_scatter call = *scatter;
    const int64_t work = call.steps * call.rows * call.columns;
    fr_team_run_if(work >= LEAST_WORK, threads, add_rows_thread, &call);
}
