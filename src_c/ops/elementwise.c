#include "elementwise.h"
#include "../time/team.h"

enum { LEAST_WORK = 65536 }; /* elements below which a second thread does not pay */

static void rows_share(void *context, int share, int shares) {
    const fr_channels *c = context;
    fr_active_kernels()->channels(c, c->rows * share / shares, c->rows * (share + 1) / shares);
}

/* Channels, whole groups of them, so that each one's sums over rows stay in one hand. */
static void columns_share(void *context, int share, int shares) {
    const fr_channels *c = context;
    const int64_t groups = (c->size + FR_GROUP - 1) / FR_GROUP;
    const int64_t end = groups * (share + 1) / shares * FR_GROUP;
    fr_active_kernels()->channels_back(c, groups * share / shares * FR_GROUP,
                                       end < c->size ? end : c->size);
}

static void divide_channels(const fr_channels *channels, int32_t threads,
                            fr_share_function *function) {
    fr_channels call = *channels;
    fr_divide(call.rows * call.size >= LEAST_WORK, threads, function, &call);
}

void fr_apply_channels(const fr_channels *channels, int32_t threads) {
    divide_channels(channels, threads, rows_share);
}

void fr_apply_channels_back(const fr_channels *channels, int32_t threads) {
    divide_channels(channels, threads, columns_share);
}

struct pairs {
    void (*pass)(const float *a, const float *b, float *y, size_t n);
    int64_t n;
    const float *a, *b;
    float *y;
};

static void pairs_share(void *context, int share, int shares) {
    const struct pairs *p = context;
    const int64_t first = p->n * share / shares, last = p->n * (share + 1) / shares;
    p->pass(p->a + first, p->b + first, p->y + first, (size_t)(last - first));
}

void fr_add(int64_t n, const float *a, const float *b, float *y, int32_t threads) {
    struct pairs call = {fr_active_kernels()->add, n, a, b, y};
    fr_divide(n >= LEAST_WORK, threads, pairs_share, &call);
}

void fr_multiply(int64_t n, const float *a, const float *b, float *y, int32_t threads) {
    struct pairs call = {fr_active_kernels()->multiply, n, a, b, y};
    fr_divide(n >= LEAST_WORK, threads, pairs_share, &call);
}
