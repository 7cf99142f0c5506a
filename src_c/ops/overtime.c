#include "overtime.h"
#include "../time/team.h"

#include <string.h>

enum {
    LEAST_WORK = 65536, /* elements below which a second thread does not pay */
    COLUMNS = 64,       /* that a share has at least, side by side: whole cache lines */
};

struct over_time {
    const fr_over_time *call;
    int32_t kind;
};

/* Some columns of a row, and its length. */
struct part {
    int64_t row, length;
    size_t first, count;
};

static size_t element(const fr_over_time *q, int64_t t, int64_t n) {
    const int64_t at = q->starts ? q->starts[t] + n : t * q->step_stride + n * q->row_stride;
    return (size_t)(at * q->width);
}

static int64_t blocks_of(const fr_over_time *q) { return (q->width + COLUMNS - 1) / COLUMNS; }

static struct part part_of(const fr_over_time *q, int64_t i) {
    const int64_t row = i / blocks_of(q), first = i % blocks_of(q) * COLUMNS;
    const int64_t left = q->width - first;
    return (struct part){row, q->lengths ? q->lengths[row] : q->steps, (size_t)first,
                         (size_t)(left < COLUMNS ? left : COLUMNS)};
}

/* Steps that a row has in memory. */
static int64_t steps_of(const fr_over_time *q, const struct part *p) {
    return q->starts ? p->length : q->steps;
}

static void divide(const fr_over_time *q, int32_t kind, int32_t threads,
                   fr_share_function *function) {
    struct over_time call = {q, kind};
    fr_divide(q->steps * q->rows * q->width >= LEAST_WORK, threads, function, &call);
}

/* ---- forward ----------------------------------------------------------------------------- */

static void mean(const fr_over_time *q, const struct part *p, float *restrict y) {
    const float share = (float)(1.0 / (double)p->length);
    for (int64_t t = 0; t < p->length; t++) {
        const float *restrict x = q->x + element(q, t, p->row) + p->first;
        for (size_t i = 0; i < p->count; i++) {
            const float value = x[i] * share;
            y[i] = t ? y[i] + value : value;
        }
    }
}

static void most(const fr_over_time *q, const struct part *p, float *restrict y) {
    int64_t at[COLUMNS] = {0};
    memcpy(y, q->x + element(q, 0, p->row) + p->first, p->count * sizeof *y);
    for (int64_t t = 1; t < p->length; t++) {
        const float *restrict x = q->x + element(q, t, p->row) + p->first;
        for (size_t i = 0; i < p->count; i++) {
            const int is_more = x[i] > y[i] || (x[i] != x[i] && y[i] == y[i]); /* the first NaN */
            y[i] = is_more ? x[i] : y[i];
            at[i] = is_more ? t : at[i];
        }
    }
    if (q->places)
        memcpy(q->places + p->row * q->width + (int64_t)p->first, at, p->count * sizeof *at);
}

static void pool_share(void *context, int share, int shares) {
    const struct over_time *c = context;
    const fr_over_time *q = c->call;
    const int64_t parts = q->rows * blocks_of(q);
    for (int64_t i = parts * share / shares; i < parts * (share + 1) / shares; i++) {
        const struct part p = part_of(q, i);
        float *y = q->y + (size_t)(p.row * q->width) + p.first;
        if (p.length == 0) {
            memset(y, 0, p.count * sizeof *y);
        } else if (c->kind == FR_LAST) {
            const float *x = q->x + element(q, p.length - 1, p.row) + p.first;
            memcpy(y, x, p.count * sizeof *y);
        } else if (c->kind == FR_MEAN) {
            mean(q, &p, y);
        } else {
            most(q, &p, y);
        }
    }
}

void fr_pool(const fr_over_time *call, int32_t kind, int32_t threads) {
    divide(call, kind, threads, pool_share);
}

/* ---- backward ---------------------------------------------------------------------------- */

/* The gradient of one step of a row. */
static void back_step(const fr_over_time *q, int32_t kind, const struct part *p, int64_t t,
                      const float *restrict dy, float *restrict dx) {
    const int64_t *at = q->places + p->row * q->width + (int64_t)p->first;
    const float share = (float)(1.0 / (double)p->length);
    if (kind == FR_MEAN && t < p->length) {
        for (size_t i = 0; i < p->count; i++) dx[i] = share * dy[i];
    } else if (kind == FR_MAX && t < p->length) {
        for (size_t i = 0; i < p->count; i++) dx[i] = at[i] == t ? dy[i] : 0.0f;
    } else if (kind == FR_LAST && t == p->length - 1) {
        memcpy(dx, dy, p->count * sizeof *dx);
    } else {
        memset(dx, 0, p->count * sizeof *dx);
    }
}

static void pool_back_share(void *context, int share, int shares) {
    const struct over_time *c = context;
    const fr_over_time *q = c->call;
    const int64_t parts = q->rows * blocks_of(q);
    for (int64_t i = parts * share / shares; i < parts * (share + 1) / shares; i++) {
        const struct part p = part_of(q, i);
        const float *dy = q->x + (size_t)(p.row * q->width) + p.first;
        for (int64_t t = 0; t < steps_of(q, &p); t++)
            back_step(q, c->kind, &p, t, dy, q->y + element(q, t, p.row) + p.first);
    }
}

void fr_pool_back(const fr_over_time *call, int32_t kind, int32_t threads) {
    divide(call, kind, threads, pool_back_share);
}

/* ---- flips ------------------------------------------------------------------------------- */

static void flip_share(void *context, int share, int shares) {
    const fr_over_time *q = ((const struct over_time *)context)->call;
    const int64_t parts = q->rows * blocks_of(q);
    for (int64_t i = parts * share / shares; i < parts * (share + 1) / shares; i++) {
        const struct part p = part_of(q, i);
        for (int64_t t = 0; t < steps_of(q, &p); t++) {
            const int64_t from = t < p.length ? p.length - 1 - t : t;
            memcpy(q->y + element(q, t, p.row) + p.first, q->x + element(q, from, p.row) + p.first,
                   p.count * sizeof *q->y);
        }
    }
}

void fr_flip(const fr_over_time *call, int32_t threads) { divide(call, 0, threads, flip_share); }
